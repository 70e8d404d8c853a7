"""Version, in its own module so that `mom --version` imports nothing else."""

__version__ = "0.1.0"
"""Version of all of mom's distributions."""
