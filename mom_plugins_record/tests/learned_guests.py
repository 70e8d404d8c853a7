"""Guests with made-up days of 24 minutes, and snapshots of their host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from mom_core import Guest, Host, Snapshot
from mom_plugins_record.forecast.curve import Calendar
from mom_plugins_record.forecast.host_days import HostDays

DAY: Final = 1440.0
SLOT: Final = DAY / 96
MIB: Final = 1024
SIZE: Final = 4096 * MIB
FIRST: Final = 4 * DAY
"""First day of a week, in seconds since the epoch."""

Use = Callable[[int, int], float]
"""Used memory of a guest in MiB, from day and slot."""


def at_eight(day: int, slot: int) -> float:
    """Return 400 MiB, and from eight to five 1,600 MiB."""
    return 1600.0 if 32 <= slot < 68 else 400.0


def no_pattern(day: int, slot: int) -> float:
    """Return use without a daily pattern."""
    return 500.0 + 400.0 * math.sin(((day * 96 + slot) // 7) ** 2.1)


def new_days() -> HostDays:
    return HostDays(Calendar(DAY, lambda _: 0.0))


def snapshots(uses: Mapping[str, Use], days: range, *, step: float = 5.0, incarnation: str = "1") -> Iterator[Snapshot]:
    """Yield the host's snapshots of these days."""
    time = FIRST + days.start * DAY
    while time < FIRST + days.stop * DAY:
        yield one_snapshot(uses, time, incarnation=incarnation)
        time += step


def one_snapshot(uses: Mapping[str, Use], time: float, *, ahead: float = 0.0, incarnation: str = "1") -> Snapshot:
    """Return one snapshot.

    :param ahead: error of the wall clock in seconds"""
    day, slot = divmod(int((time - FIRST) // SLOT), 96)
    guests = {}
    for name, use in uses.items():
        used = int(use(day, slot) * MIB)
        fields = {"mem_available": SIZE - 64 * MIB, "mem_usable": SIZE - 64 * MIB - used, "balloon_cur": SIZE, "balloon_max": SIZE}
        guests[name] = Guest(name, name, fields, incarnation=incarnation)
    return Snapshot(Host(), guests, time + ahead, time)


def told(days: HostDays, snapshot: Snapshot, name: str) -> dict[str, object]:
    """Return the fields of a guest."""
    columns = days.columns(snapshot.listed)
    assert columns is not None
    place = list(snapshot.guests).index(name)
    return {field: columns[field][place] for field in columns}
