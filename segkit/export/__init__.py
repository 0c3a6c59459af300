"""Segments for other tools."""
