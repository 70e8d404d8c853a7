"""Records of the accounts: hours of the host and of each guest, and minutes of the host. docs/report.md defines every number.

A sum is a size or a state times its seconds. Sizes are in KiB.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final, NamedTuple, Self

from mom_core import Report

HOUR: Final = 3600.0

BINS_EACH_DOUBLING: Final = 16
"""Number of bins from a size to twice that size. A percentile is the upper edge of a bin, and so at most 4.4 % too high."""

_PER_NATURAL: Final = BINS_EACH_DOUBLING / math.log(2)

SOLD: Final = ("sold", "had", "held", "swapped", "ballooned", "untaken", "beyond")
"""Memory of guests: sold, left by the balloon (`had`), resident (`held`), in the host's swap, in the balloon, and not backed (`untaken`).

`beyond` is memory of processes beyond the guests' sizes, such as QEMU's own.
"""

GIVEN_BACK: Final = ("given_back_balloon", "given_back_sweeps", "given_back_cold")


def bin_of(kib: float) -> int:
    """Return the number of the bin for a size."""
    return int(math.log(kib) * _PER_NATURAL) if kib > 1 else 0


def upper_edge(number: int) -> float:
    """Return the largest size of a bin, in KiB."""
    return float(2 ** ((number + 1) / BINS_EACH_DOUBLING))


def percentile(spread: Mapping[int, float], share: float) -> float | None:
    """Return the size in KiB that was not exceeded for this share of the time; None without data.

    :param spread: seconds keyed by bin
    """
    total = sum(spread.values())
    if total <= 0:
        return None
    passed = 0.0
    for number in sorted(spread):
        passed += spread[number]
        if passed >= share * total * (1 - 1e-9):
            break
    return upper_edge(number)


def new_sums() -> defaultdict[str, float]:
    """Return a mapping in which each sum is 0."""
    return defaultdict(float)


@dataclass(slots=True)
class AccountedHour:
    """Accounts of the host or of one guest for one hour.

    :param hour: number of the hour since the epoch
    :param sums: values that are added up over hours. `guests_*` of the host are the sums of all guests together
    :param spreads: seconds keyed by bin of a size
    """

    hour: int
    name: str = ""
    sums: defaultdict[str, float] = field(default_factory=new_sums)
    most: defaultdict[str, float] = field(default_factory=new_sums)
    latest: defaultdict[str, float] = field(default_factory=new_sums)
    spreads: defaultdict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, more: Self) -> None:
        """Add another hour to this record."""
        self.hour, self.name = more.hour or self.hour, more.name or self.name
        for name, value in more.sums.items():
            self.sums[name] += value
        for name, value in more.most.items():
            self.most[name] = max(self.most[name], value)
        self.latest.update((name, value) for name, value in more.latest.items() if value)
        for name, spread in more.spreads.items():
            for number, seconds in spread.items():
                self.add_time(name, number, seconds)

    def add_size(self, name: str, kib: float, seconds: float) -> None:
        """Add a size that lasted for some time."""
        self.sums[f"{name}_kib_seconds"] += kib * seconds
        self.sums[f"{name}_known_seconds"] += seconds

    def add_spread(self, name: str, kib: float, seconds: float) -> None:
        """Add a size to the sums, the maximum and the spread."""
        self.add_size(name, kib, seconds)
        self.most[f"{name}_most_kib"] = max(self.most[f"{name}_most_kib"], kib)
        self.add_time(name, bin_of(kib), seconds)

    def add_time(self, name: str, number: int, seconds: float) -> None:
        """Add the seconds for which a size was in a bin."""
        spread = self.spreads[name]
        spread[number] = spread.get(number, 0.0) + seconds

    def add_share(self, name: str, percent: float | None, seconds: float) -> None:
        """Add a percentage (None if unknown) that applied for some time."""
        if percent is not None:
            self.sums[f"{name}_seconds"] += seconds * percent / 100
            self.sums[f"{name}_known_seconds"] += seconds

    def average(self, name: str) -> float:
        """Return the average size in the known time, in KiB; 0 if unknown."""
        known = self.sums[f"{name}_known_seconds"]
        return self.sums[f"{name}_kib_seconds"] / known if known else 0.0


@dataclass(slots=True)
class GuestHour(AccountedHour):
    """Accounts of a guest for one hour. The platform has set the `properties`."""

    id: str = ""
    service_class: str = ""
    incarnation: str = ""
    properties: Mapping[str, str | list[str]] = field(default_factory=dict)

    def add(self, more: Self) -> None:
        """Add another hour to this record."""
        AccountedHour.add(self, more)
        self.service_class, self.properties = more.service_class or self.service_class, more.properties or self.properties


def total_of(hosts: Iterable[AccountedHour]) -> AccountedHour:
    """Return the sum of these hours."""
    total = AccountedHour(0)
    for row in hosts:
        total.add(row)
    return total


MINUTE: Final = 60.0

HOST: Final = (
    "mem_available", "mem_really_available", "ksm_saved", "swap_usage", "psi_memory_some_avg10", "killed_today",
)  # fmt: skip

TOGETHER: Final = ("rss", "cold")
"""Guests' fields that are summed over all guests."""


class MinuteRow(NamedTuple):
    """Values of a series in minute `minute` since the epoch. A series is a host field, or `guests.` and a field summed over guests."""

    minute: int
    series: str
    least: float
    mean: float
    most: float


class Minutes:
    """Figures of the present minute, and of past minutes until `take` returns them. Not thread-safe."""

    def __init__(self) -> None:
        self._minute = 0
        self._values: dict[str, list[float]] = {}
        self._over: list[MinuteRow] = []

    def add(self, report: Report) -> None:
        """Add one cycle."""
        if (minute := int(report.time // MINUTE)) != self._minute:
            self._over += self._current()
            self._minute, self._values = minute, {}
        snapshot = report.snapshot
        numbers_now = {name: snapshot.host.number(name) for name in HOST}
        for name in TOGETHER:
            numbers = [value for value in snapshot.numbers(name) if value is not None]
            numbers_now[f"guests.{name}"] = sum(numbers) if numbers else None
        for name, value in numbers_now.items():
            if value is not None:
                self._values.setdefault(name, []).append(value)

    def take(self) -> Sequence[MinuteRow]:
        """Return the minutes since the last call, and the present minute so far."""
        over, self._over = self._over, []
        return [*over, *self._current()]

    def _current(self) -> Sequence[MinuteRow]:
        return [MinuteRow(self._minute, name, min(figures), fmean(figures), max(figures)) for name, figures in self._values.items()]
