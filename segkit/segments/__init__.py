"""Micro-segments: the map, the search, placing anyone, and the proof."""
