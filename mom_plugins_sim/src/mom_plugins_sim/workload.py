"""Memory demand of programs, in guests and on the host, as pure functions of time."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MIB = 1024  # KiB

DAY = 86_400.0  # s

TOUCH_RATE = 10_000 * 4.0
"""KiB/s that a program touches, page by page and at random."""

COLD_RATE = 200 * 4.0
"""KiB/s of cold memory that a program touches: the same rate as in benchmarks/squeeze."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Demand for anonymous memory in KiB, by time in seconds since the beginning.

    :param base: smallest demand, of programs that have just started
    """

    base: float
    at: Callable[[float], float]


def constant(base: float) -> Demand:
    """Return a constant demand."""
    return Demand(base, lambda time: base)


def bursty(base: float, burst: float, period: float, duty: float, phase: float = 0.0) -> Demand:
    """Return a demand of `base`, and of `burst` more during the first part (`duty`) of every `period`.

    :param phase: position within the period at the beginning of the simulation
    """
    return Demand(base, lambda time: base + (burst if (time + phase) % period < period * duty else 0.0))


def diurnal(base: float, peak: float, peak_time: float) -> Demand:
    """Return a daily cosine between `base` and `peak`, highest `peak_time` seconds into the day."""
    return Demand(base, lambda time: base + (peak - base) * (0.5 + 0.5 * math.cos(2 * math.pi * (time - peak_time) / DAY)))


def leak(base: float, rate: float, limit: float, phase: float = 0.0) -> Demand:
    """Return a sawtooth: growth from `base` by `rate` KiB/s, and a restart at `limit`."""
    tooth = (limit - base) / rate
    return Demand(base, lambda time: base + rate * ((time + phase) % tooth))


def batch(base: float, job: float, starts: Sequence[float], lasts: float, period: float = math.inf) -> Demand:
    """Return a demand of `base`, and of `job` more for `lasts` seconds from each start. The jobs repeat after `period`."""

    def at(time: float) -> float:
        last = bisect.bisect_right(starts, time % period) - 1
        return base + job if last >= 0 and time % period - starts[last] < lasts else base

    return Demand(base, at)


@dataclass(frozen=True, slots=True)
class Trace:
    """Measured demand: each value holds from its time (seconds, ascending) to the next. The trace repeats."""

    times: Sequence[float]
    values: Sequence[float]

    @property
    def base(self) -> float:
        """Return the first value."""
        return self.values[0]

    def at(self, time: float) -> float:
        """Return the value at or before that time."""
        first, last = self.times[0], self.times[-1]
        if time > last > first:
            time = first + time % (last - first)
        return self.values[max(0, bisect.bisect_right(self.times, time) - 1)]


@dataclass(frozen=True, slots=True)
class Workload:
    """Work of one guest's programs. Sizes in KiB, rates in KiB/s.

    :param demand: anonymous memory of the programs
    :param files: size of the files that programs read into the page cache, at `read_rate`
    :param hot_cache: part of the files that programs read again and again
    :param duplicate: fraction of the guest's memory whose content other guests also have
    :param cold: memory that programs touch only at `COLD_RATE`; they touch other memory at `touch_rate`
    :param warms: time in s at which cold memory becomes ordinary memory; None: never
    """

    demand: Demand | Trace
    files: float = 0.0
    read_rate: float = 0.0
    hot_cache: float = 0.0
    duplicate: float = 0.0
    cold: float = 0.0
    touch_rate: float = TOUCH_RATE
    warms: float | None = None

    def cold_at(self, time: float) -> float:
        """Return the cold memory at that time."""
        return self.cold if self.warms is None or time < self.warms else 0.0


@dataclass(frozen=True, slots=True)
class GuestKind:
    """Kind of guest. Each guest's values are drawn from these ranges. Sizes are fractions of the guest's memory."""

    name: str
    weight: int
    base: tuple[float, float]
    burst: tuple[float, float]
    period: tuple[float, float]
    duty: float
    files: tuple[float, float]
    read_rate: tuple[float, float]
    hot_cache: tuple[float, float]


# Shares as in reports of clouds: most guests use far less than they have bought, a few use nearly all, some in bursts. Verma et al.
# (EuroSys 2015) and TMO (ASPLOS 2022) find 20 to 40 % of resident memory cold. Bursts of minutes are compilers and reports.
KINDS = (
    GuestKind("web", 4, (0.15, 0.30), (0.0, 0.0), (0, 0), 0.0, (0.15, 0.35), (2 * MIB, 8 * MIB), (0.05, 0.12)),
    GuestKind("db", 2, (0.40, 0.55), (0.0, 0.0), (0, 0), 0.0, (0.25, 0.40), (8 * MIB, 30 * MIB), (0.10, 0.20)),
    GuestKind("build", 2, (0.12, 0.20), (0.25, 0.40), (240, 420), 0.25, (0.15, 0.30), (4 * MIB, 20 * MIB), (0.05, 0.10)),
    GuestKind("idle", 2, (0.06, 0.12), (0.0, 0.0), (0, 0), 0.0, (0.05, 0.15), (0.1 * MIB, 0.5 * MIB), (0.02, 0.04)),
)

DUPLICATE = (0.10, 0.25)
"""Range of the fraction of a guest's memory whose content other guests also have (Difference Engine, OSDI 2008; Satori, ATC 2009)."""


def draw_workload(random_source: random.Random, memory_kib: float, cold: float = 0.0) -> tuple[str, Workload]:
    """Draw a kind of guest and a workload of that kind. Return the kind's name and the workload.

    :param cold: fraction of the base demand that is cold
    """
    kind = random_source.choices(KINDS, [kind.weight for kind in KINDS])[0]
    uniform = random_source.uniform
    period = uniform(*kind.period)
    base, burst = uniform(*kind.base) * memory_kib, uniform(*kind.burst) * memory_kib
    phase = uniform(0.0, period)
    return kind.name, Workload(
        bursty(base, burst, period, kind.duty, phase) if burst else constant(base),
        files=uniform(*kind.files) * memory_kib,
        read_rate=uniform(*kind.read_rate),
        hot_cache=uniform(*kind.hot_cache) * memory_kib,
        duplicate=uniform(*DUPLICATE),
        cold=cold * base,
    )


@dataclass(frozen=True, slots=True)
class HostLoad:
    """Program on the host that grows to `peak` KiB from `begins` on, and frees all of it after `lasts` seconds."""

    peak: float = 0.0
    begins: float = 0.0
    lasts: float = 0.0
    rate: float = 150.0 * MIB
    """Growth in KiB/s, like a program that reads its input from a disk."""

    def at(self, time: float) -> float:
        """Return the program's memory at that time, in KiB."""
        running = time - self.begins
        if running <= 0 or running >= self.lasts:
            return 0.0
        return min(self.peak, running * self.rate)
