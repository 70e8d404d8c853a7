"""NUMA for mom: memory and CPUs of nodes and guests."""

from mom_plugins_numa.plugin import NumaPlugin

__version__ = "0.1.0"

__all__ = ["NumaPlugin", "__version__"]
