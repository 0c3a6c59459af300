"""What customers will do next, back-tested."""
