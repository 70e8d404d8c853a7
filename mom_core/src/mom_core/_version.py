"""The version, apart from everything else so that `mom --version` imports nothing more."""

__version__ = "0.1.0"
"""Version of all of mom's distributions."""
