"""Subcommands of `mom --help`, imported at first use."""

from typing import Final

from mom_daemon import Verb

EVICTION: Final = Verb(
    "mom_plugins_sla.eviction.verbs:eviction", "Show the guests that mom has stopped or is moving; resume guests.", "Change"
)
