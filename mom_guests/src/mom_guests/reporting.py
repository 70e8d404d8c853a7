"""Whether guests' statistics come as they ought to: how old they may be, and from when on a balloon driver counts as silent."""

from __future__ import annotations

from typing import Final

from mom_guests.statistics import Reading

_STALE_PERIODS: Final = 3
_STALE_SECONDS: Final = 10.0
"""Without a setting, statistics are stale after three of the guest's periods, and ten seconds: a guest that is short of CPU misses one."""

_DRIVER_GRACE_SECONDS: Final = 60.0
"""How long a guest may take to answer for the first time, from when it was first seen with statistics on. Booting takes tens of seconds."""

_DRIVER_SILENT_SECONDS: Final = 30.0
_DRIVER_SILENT_STALE: Final = 3
"""How long, and how many times the age from which on they are stale, statistics may not come before the driver counts as silent: a
guest that is short of CPU misses several."""


def stale_seconds(setting: float | None, period: int) -> float:
    """The age from which on what a guest said is unknown.

    :param setting: the operator's; None: by the guest's period
    :param period: every how many seconds the guest is asked
    """
    return max(_STALE_SECONDS, _STALE_PERIODS * period) if setting is None else setting


def why_silent(reading: Reading, since: float, monotonic: float, stale_after: float) -> str:
    """How the statistics of a guest that is asked for them, and whose last ones are stale, have failed to come for long; empty: not long.

    :param since: monotonic seconds since when statistics could have come
    """
    age = reading.age(monotonic)
    if age is None:
        return "the guest's balloon driver has never answered" if monotonic - since > _DRIVER_GRACE_SECONDS else ""
    patience = max(_DRIVER_SILENT_SECONDS, _DRIVER_SILENT_STALE * stale_after)
    return "the guest's balloon driver does not answer any more" if min(age, monotonic - since) > patience else ""
