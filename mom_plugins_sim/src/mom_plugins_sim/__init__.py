"""A simulated host with guests for mom, and the demonstration."""

from mom_plugins_sim.plugin import SimPlugin as SimPlugin
