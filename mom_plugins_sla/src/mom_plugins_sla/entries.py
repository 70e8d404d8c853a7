"""Verbs for `mom --help`. mom imports a verb when it runs."""

from typing import Final

from mom_daemon import Verb

EVICTION: Final = Verb(
    "mom_plugins_sla.eviction.verbs:eviction", "Show the guests that mom has stopped or moves, and resume them.", "Change"
)
