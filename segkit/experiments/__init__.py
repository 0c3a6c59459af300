"""Pilots with a holdout: design, read-out, estimates."""
