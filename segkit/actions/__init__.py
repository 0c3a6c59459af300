"""What to do with a segment: personas and copy, predictions, measurement, refresh."""
