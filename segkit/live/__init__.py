"""Segments updated with each event."""
