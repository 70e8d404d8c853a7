"""The KSM collector and controller for mom, with its default policy."""

__version__ = "0.1.0"
