"""Run notebooks: the session inside one, and the chain of all."""
