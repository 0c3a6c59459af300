"""Read-only answers over a finished run, for people, programs and agents."""
