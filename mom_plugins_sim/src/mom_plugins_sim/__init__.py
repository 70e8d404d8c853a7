"""A simulated host with guests for mom, and the demonstration."""

from mom_plugins_sim.plugin import SimPlugin

__version__ = "0.1.0"

__all__ = ["SimPlugin", "__version__"]
