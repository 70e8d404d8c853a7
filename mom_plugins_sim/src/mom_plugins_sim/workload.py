"""The memory that programs inside guests, and beside them on the host, want over time: functions of the time and of nothing else."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MIB = 1024  # KiB

DAY = 86_400.0  # s

TOUCH_RATE = 10_000 * 4.0
"""KiB/s of its memory that a program looks at, page by page and in no order. A real one that did so, 8 % of it in swap, waited for 600 to
890 pages a second, as it should (docs/simulator.md)."""

COLD_RATE = 200 * 4.0
"""KiB/s of what it hardly touches that a program looks at all the same: as those of the squeeze do."""


class Demand(Protocol):
    """The anonymous memory that programs want. Sizes in KiB, times in seconds since the beginning."""

    @property
    def base(self) -> float:
        """The memory that they want when they have just started."""

    def wanted(self, time: float) -> float:
        """The memory that they want at that moment."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    base: float

    def wanted(self, time: float) -> float:
        """The base."""
        return self.base


@dataclass(frozen=True, slots=True)
class Bursty:
    """`base` all the time, and `burst` more during the first `duty` (ratio) of every `period`, which it is `phase` into at the start."""

    base: float
    burst: float
    period: float
    duty: float
    phase: float = 0.0

    def wanted(self, time: float) -> float:
        """Base, or base and burst."""
        if (time + self.phase) % self.period < self.period * self.duty:
            return self.base + self.burst
        return self.base


@dataclass(frozen=True, slots=True)
class Diurnal:
    """A day's wave between `base` and `peak`, highest at `peak_time` seconds into the day: what servers of people who sleep do."""

    base: float
    peak: float
    peak_time: float
    period: float = DAY

    def wanted(self, time: float) -> float:
        """A cosine: half of the day above the mean."""
        share = 0.5 + 0.5 * math.cos(2 * math.pi * (time - self.peak_time) / self.period)
        return self.base + (self.peak - self.base) * share


@dataclass(frozen=True, slots=True)
class Leak:
    """Grows from `base` by `rate` KiB/s to `limit`, where it is started anew."""

    base: float
    rate: float
    limit: float
    phase: float = 0.0

    def wanted(self, time: float) -> float:
        """A saw tooth."""
        tooth = (self.limit - self.base) / self.rate
        return self.base + self.rate * ((time + self.phase) % tooth)


@dataclass(frozen=True, slots=True)
class Batch:
    """`base`, and during jobs `job` more; each begins at one of `starts` (seconds, ascending) and `lasts`. After `period` they begin
    anew."""

    base: float
    job: float
    starts: Sequence[float]
    lasts: float
    period: float = math.inf

    def wanted(self, time: float) -> float:
        """Base, or base and job."""
        time %= self.period
        last = bisect.bisect_right(self.starts, time) - 1
        return self.base + self.job if last >= 0 and time - self.starts[last] < self.lasts else self.base


@dataclass(frozen=True, slots=True)
class Trace:
    """A demand that was measured at given times (seconds, ascending), and stays so until the next; after the last it begins anew."""

    times: Sequence[float]
    values: Sequence[float]

    @property
    def base(self) -> float:
        """The first value."""
        return self.values[0]

    def wanted(self, time: float) -> float:
        """The value at or before that time."""
        length = self.times[-1] - self.times[0]
        if length > 0:
            time = self.times[0] + time % length if time > self.times[-1] else time
        return self.values[max(0, bisect.bisect_right(self.times, time) - 1)]


@dataclass(frozen=True, slots=True)
class Workload:
    """The work of one guest's programs. Sizes in KiB, rates in KiB/s.

    `demand` is the anonymous memory that they want. They read files of `files` KiB together at `read_rate`, which fills the page cache;
    `hot_cache` of them they read again and again. `duplicate` is the ratio of the guest's memory whose content other guests have too.
    Of what programs hold they look at `touch_rate`, but for `cold`, which was written once: of that at `cold_rate`, until they begin to
    use it like all the rest at `warms` (s).
    """

    demand: Demand
    files: float = 0.0
    read_rate: float = 0.0
    hot_cache: float = 0.0
    duplicate: float = 0.0
    cold: float = 0.0
    cold_rate: float = COLD_RATE
    touch_rate: float = TOUCH_RATE
    warms: float | None = None

    def cold_at(self, time: float) -> float:
        """The memory that is hardly touched at that moment."""
        return self.cold if self.warms is None or time < self.warms else 0.0


@dataclass(frozen=True, slots=True)
class GuestKind:
    """A sort of guest: ranges, from which each guest draws. Shares are of the guest's memory."""

    name: str
    weight: int
    base: tuple[float, float]
    burst: tuple[float, float]
    period: tuple[float, float]
    duty: float
    files: tuple[float, float]
    read_rate: tuple[float, float]
    hot_cache: tuple[float, float]


# Shares as in what clouds report of their guests: most use far less than they have bought, a few use nearly all, some in bursts
# (Verma et al., EuroSys 2015, and TMO, ASPLOS 2022, find 20 to 40 % of resident memory cold). Bursts of minutes are compilers and reports.
KINDS = (
    GuestKind("web", 4, (0.15, 0.30), (0.0, 0.0), (0, 0), 0.0, (0.15, 0.35), (2 * MIB, 8 * MIB), (0.05, 0.12)),
    GuestKind("db", 2, (0.40, 0.55), (0.0, 0.0), (0, 0), 0.0, (0.25, 0.40), (8 * MIB, 30 * MIB), (0.10, 0.20)),
    GuestKind("build", 2, (0.12, 0.20), (0.25, 0.40), (240, 420), 0.25, (0.15, 0.30), (4 * MIB, 20 * MIB), (0.05, 0.10)),
    GuestKind("idle", 2, (0.06, 0.12), (0.0, 0.0), (0, 0), 0.0, (0.05, 0.15), (0.1 * MIB, 0.5 * MIB), (0.02, 0.04)),
)

DUPLICATE = (0.10, 0.25)
"""Ratio of a guest's memory that others have too. Difference Engine (OSDI 2008) finds more in like guests, Satori (USENIX ATC 2009)
less in mixed ones."""


def draw_workload(random_source: random.Random, memory_kib: float, cold: float = 0.0) -> tuple[str, Workload]:
    """The kind's name, and a workload of that kind for a guest of so much memory; it hardly touches the ratio `cold` of what it
    holds always."""
    kind = random_source.choices(KINDS, [kind.weight for kind in KINDS])[0]
    uniform = random_source.uniform
    period = uniform(*kind.period)
    base, burst = uniform(*kind.base) * memory_kib, uniform(*kind.burst) * memory_kib
    phase = uniform(0.0, period)
    return kind.name, Workload(
        Bursty(base, burst, period, kind.duty, phase) if burst else Constant(base),
        files=uniform(*kind.files) * memory_kib,
        read_rate=uniform(*kind.read_rate),
        hot_cache=uniform(*kind.hot_cache) * memory_kib,
        duplicate=uniform(*DUPLICATE),
        cold=cold * base,
    )


@dataclass(frozen=True, slots=True)
class HostLoad:
    """A program beside the guests that takes `peak` KiB, from `begins` on for `lasts` seconds, and then gives it back."""

    peak: float = 0.0
    begins: float = 0.0
    lasts: float = 0.0
    rate: float = 150.0 * MIB
    """KiB/s at which it grows; this is a program that reads its input from a disk."""

    def wanted(self, time: float) -> float:
        """The memory that it holds at that moment, in KiB."""
        running = time - self.begins
        if running <= 0 or running >= self.lasts:
            return 0.0
        return min(self.peak, running * self.rate)
