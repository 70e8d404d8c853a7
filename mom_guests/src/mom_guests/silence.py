"""Whether guests' statistics come as they ought to: from when on a balloon driver counts as silent, and which are not believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from mom_guests.statistics import Reading

_DRIVER_GRACE_SECONDS: Final = 60.0
"""How long a guest may take to answer for the first time, from when it was first seen with statistics on. Booting takes tens of seconds."""

_DRIVER_SILENT_SECONDS: Final = 30.0
_DRIVER_SILENT_STALE: Final = 3
"""How long, and how many times the age from which on they are stale, statistics may not come before the driver counts as silent: a
guest that is short of CPU misses several."""


def why_silent(reading: Reading, since: float, monotonic: float, stale_after: float) -> str:
    """How the statistics of a guest that is asked for them, and whose last ones are stale, have failed to come for long; empty: not long.

    :param since: monotonic seconds since when statistics could have come
    """
    age = reading.age(monotonic)
    if age is None:
        return "the guest's balloon driver has never answered" if monotonic - since > _DRIVER_GRACE_SECONDS else ""
    patience = max(_DRIVER_SILENT_SECONDS, _DRIVER_SILENT_STALE * stale_after)
    return "the guest's balloon driver does not answer any more" if min(age, monotonic - since) > patience else ""


class LastReading(Protocol):
    """What a guest said last, and whether that is fresh."""

    @property
    def reading(self) -> Reading | None:
        """None: nothing yet."""

    @property
    def fresh(self) -> bool:
        """Whether it is no older than what counts."""


def distrusted(known: Mapping[str, LastReading]) -> dict[str, Sequence[str]]:
    """The guests whose last statistics cannot be true, by id: the names of the fields."""
    return {
        identity: said.reading.impossible
        for identity, said in known.items()
        if said.fresh and said.reading is not None and said.reading.impossible
    }
