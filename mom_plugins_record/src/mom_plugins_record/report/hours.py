"""Records of one hour in the accounts, for the host and for each guest, and of the host's minutes. docs/report.md defines every number.

A sum is a size or a state times the seconds that it lasted. Sizes are in KiB.
"""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any, Final, NamedTuple, TypeVar, get_type_hints

from mom_core import Report

HOUR: Final = 3600.0

BINS_EACH_DOUBLING: Final = 16
"""Number of bins from a size to twice that size. A percentile is the upper edge of a bin, and so at most 4.4 % too high."""

_PER_NATURAL: Final = BINS_EACH_DOUBLING / math.log(2)

_LATEST: Final = frozenset({"hour", "began", "ended", "total_kib", "wanted_kib", "promisable_kib", "sold_kib", "touched_kib", "properties"})
"""Fields that are not summed up: a total contains the latest known value."""

Record = TypeVar("Record")


def bin_of(kib: float) -> int:
    """Return the bin of a size."""
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


def _spread() -> dict[int, float]:
    return defaultdict(float)


@dataclass(slots=True)
class SizeSum:
    """Size times time, and the seconds with a known size."""

    kib_seconds: float = 0.0
    known_seconds: float = 0.0

    @property
    def average(self) -> float:
        """Average size; 0 if unknown."""
        return self.kib_seconds / self.known_seconds if self.known_seconds else 0.0

    def add(self, kib: float, seconds: float) -> None:
        """Add a size that lasted for some time."""
        self.kib_seconds += kib * seconds
        self.known_seconds += seconds


@dataclass(slots=True)
class SizeSpread(SizeSum):
    """Size over time, with its maximum and the seconds in each bin."""

    most_kib: float = 0.0
    spread: dict[int, float] = field(default_factory=_spread)

    def add(self, kib: float, seconds: float) -> None:
        """Add a size that lasted for some time."""
        SizeSum.add(self, kib, seconds)
        self.most_kib = max(self.most_kib, kib)
        self.spread[bin_of(kib)] += seconds


@dataclass(slots=True)
class TimeSum:
    """Seconds of a state, and seconds with a known state."""

    seconds: float = 0.0
    known_seconds: float = 0.0

    def add(self, percent: float | None, elapsed: float) -> None:
        """Record that the value was `percent` for `elapsed` seconds; None if unknown."""
        if percent is not None:
            self.seconds += elapsed * percent / 100
            self.known_seconds += elapsed


@dataclass(slots=True)
class SoldSums:
    """Memory sold to guests, broken down by where it is, in KiB times seconds.

    :param had: size that the balloon leaves to the guest
    :param held: resident memory of the guest's process
    :param swapped: memory in the host's swap
    :param ballooned: memory in the balloon
    :param untaken: memory that the balloon leaves to the guest, and that the host does not back
    :param beyond: memory of the process beyond the guest's size, such as QEMU's own
    """

    sold: float = 0.0
    had: float = 0.0
    held: float = 0.0
    swapped: float = 0.0
    ballooned: float = 0.0
    untaken: float = 0.0
    beyond: float = 0.0


@dataclass(slots=True)
class GivenBackSums:
    """Memory given back by each means, in KiB times seconds."""

    balloon: float = 0.0
    sweeps: float = 0.0
    cold: float = 0.0


@dataclass(slots=True)
class HarmSums:
    """Stalls and OOM kills of guests, and broken promises to them.

    :param waited_for_mom_seconds: part of `waited_seconds` while mom held memory back
    :param late_bursts: bursts for which mom gave memory back too late
    """

    waited_seconds: float = 0.0
    waited_for_mom_seconds: float = 0.0
    waiting_known_seconds: float = 0.0
    late_bursts: int = 0
    killed: int = 0
    killed_known_seconds: float = 0.0
    promise_kept_seconds: float = 0.0
    promise_broken_seconds: float = 0.0


@dataclass(slots=True)
class GuestSums:
    """Sums over all guests of a host."""

    kib_seconds: SoldSums = field(default_factory=SoldSums)
    given_back_kib_seconds: GivenBackSums = field(default_factory=GivenBackSums)
    harm: HarmSums = field(default_factory=HarmSums)


@dataclass(slots=True)
class GuestHour:
    """One guest in one hour."""

    hour: int
    id: str
    name: str
    service_class: str = ""
    incarnation: str = ""
    seconds: float = 0.0
    unknown_seconds: float = 0.0
    sold_kib: float = 0.0
    touched_kib: float = 0.0
    kib_seconds: SoldSums = field(default_factory=SoldSums)
    given_back_kib_seconds: GivenBackSums = field(default_factory=GivenBackSums)
    harm: HarmSums = field(default_factory=HarmSums)
    used: SizeSpread = field(default_factory=SizeSpread)
    worked: SizeSpread = field(default_factory=SizeSpread)
    merged: SizeSum = field(default_factory=SizeSum)
    held_spread: dict[int, float] = field(default_factory=_spread)
    properties: Mapping[str, str | list[str]] = field(default_factory=dict)
    """Properties that the platform has set."""


@dataclass(slots=True)
class LimitSums:
    """Seconds in which available memory was below each of the host's watermarks."""

    wanted_seconds: float = 0.0
    hard_seconds: float = 0.0
    low_seconds: float = 0.0
    known_seconds: float = 0.0


@dataclass(slots=True)
class HostHour:
    """Host in one hour, from `began` to `ended` (seconds since the epoch)."""

    hour: int
    name: str = ""
    began: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0
    unknown_seconds: float = 0.0
    cycles: int = 0
    guests_most: int = 0
    evictions: int = 0
    total_kib: float = 0.0
    wanted_kib: float = 0.0
    sold_most_kib: float = 0.0
    promised_most_kib: float = 0.0
    promisable_kib: float = 0.0
    used: SizeSpread = field(default_factory=SizeSpread)
    ksm: SizeSum = field(default_factory=SizeSum)
    stalled: TimeSum = field(default_factory=TimeSum)
    below: LimitSums = field(default_factory=LimitSums)
    ksmd_cpu: TimeSum = field(default_factory=TimeSum)
    mom_cpu: TimeSum = field(default_factory=TimeSum)
    guests: GuestSums = field(default_factory=GuestSums)


def added(total: Record, more: Record) -> Record:
    """Add a record to a total, and return the total."""
    kind: Any = type(total)
    for name, merge in _merges(kind):
        setattr(total, name, merge(getattr(total, name), getattr(more, name)))
    return total


@lru_cache
def _merges(kind: Any) -> tuple[tuple[str, Callable[[Any, Any], Any]], ...]:
    hints = get_type_hints(kind)

    def merge(name: str) -> Callable[[Any, Any], Any]:
        if is_dataclass(hints[name]):
            return added
        if name.endswith("spread"):
            return _added_spread
        if "most" in name:
            return max
        return _latest if name in _LATEST or hints[name] is str else operator.add

    return tuple((item.name, merge(item.name)) for item in fields(kind))


def _latest(before: object, after: object) -> object:
    return after or before


def _added_spread(total: dict[int, float], more: Mapping[int, float]) -> dict[int, float]:
    for number, seconds in more.items():
        total[number] += seconds
    return total


MINUTE: Final = 60.0

FORECAST_ERRORS: Final = ("forecast_error", "forecast_error_unlearned")
"""Host fields: errors of the forecast, and of expecting no change."""

HOST: Final = (
    "mem_available", "mem_really_available", "ksm_saved", "swap_usage", "psi_memory_some_avg10", "killed_today", *FORECAST_ERRORS,
)  # fmt: skip

TOGETHER: Final = ("rss", "cold")
"""Guests' fields that are summed over all guests."""


class MinuteRow(NamedTuple):
    """Figure in one minute, counted from the epoch. The series of a sum over guests is `guests.` and the field's name."""

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
