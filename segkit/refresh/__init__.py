"""What changed since the previous run, and what to do about it."""
