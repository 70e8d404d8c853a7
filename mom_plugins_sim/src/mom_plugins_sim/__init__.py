"""A simulated host with guests for mom, and the demonstration."""

__version__ = "0.1.0"
