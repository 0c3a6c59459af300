"""segkit: customer micro-segments from raw events, personas, and the proof that they hold."""

__version__ = "0.2.0"
