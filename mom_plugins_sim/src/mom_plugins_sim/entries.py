"""Subcommands of `mom --help`, imported when they run."""

from typing import Final

from mom_daemon import Verb

DEMO: Final = Verb("mom_plugins_sim.demo.command:demo", "Show mom at work on a simulated host.", "Try")
SIMULATE: Final = Verb("mom_plugins_sim.simulate.command:simulate", "Run a scenario under the default policies or others.", "Try")
