"""The version, apart from everything else so that `mom --version` imports nothing more."""

__version__ = "0.1.0"
"""The version of all of mom's distributions, which they have in step."""
