"""The verbs, for `mom --help`: each is imported when it is used."""

from typing import Final

from mom_daemon import Verb

EVICTION: Final = Verb(
    "mom_plugins_sla.eviction.verbs:eviction", "Show the guests that mom has stopped or moves, and let them run again.", "Change"
)
