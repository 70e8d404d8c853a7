"""`mom bugreport`: what a support engineer asks for, in one file, without secrets."""

__version__ = "0.1.0"
