"""Host collectors for mom: memory, swap, CPU, pressure and time."""

__version__ = "0.1.0"
