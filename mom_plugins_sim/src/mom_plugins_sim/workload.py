"""What the programs inside guests, and beside them on the host, want of memory over time: functions of the time and of nothing else."""

from __future__ import annotations

import random
from dataclasses import dataclass

MIB = 1024  # KiB


@dataclass(frozen=True, slots=True)
class Workload:
    """What one guest's programs want. Sizes in KiB, times in seconds.

    They hold `base` all the time, and `burst` more during the first `duty` (ratio) of every `period`, which they are `phase` into at
    the start. They read files of `files` KiB together at `read_rate` KiB/s, which fills the page cache; `hot_cache` of them they read
    again and again. `duplicate` is the ratio of the guest's memory whose content other guests have too.
    """

    base: float
    burst: float = 0.0
    period: float = 0.0
    duty: float = 0.0
    phase: float = 0.0
    files: float = 0.0
    read_rate: float = 0.0
    hot_cache: float = 0.0
    duplicate: float = 0.0

    def wanted(self, time: float) -> float:
        """The anonymous memory in KiB that the programs want at that moment."""
        if self.burst and (time + self.phase) % self.period < self.period * self.duty:
            return self.base + self.burst
        return self.base


@dataclass(frozen=True, slots=True)
class Kind:
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
    Kind("web", 4, (0.15, 0.30), (0.0, 0.0), (0, 0), 0.0, (0.15, 0.35), (2 * MIB, 8 * MIB), (0.05, 0.12)),
    Kind("db", 2, (0.40, 0.55), (0.0, 0.0), (0, 0), 0.0, (0.25, 0.40), (8 * MIB, 30 * MIB), (0.10, 0.20)),
    Kind("build", 2, (0.12, 0.20), (0.25, 0.40), (240, 420), 0.25, (0.15, 0.30), (4 * MIB, 20 * MIB), (0.05, 0.10)),
    Kind("idle", 2, (0.06, 0.12), (0.0, 0.0), (0, 0), 0.0, (0.05, 0.15), (0.1 * MIB, 0.5 * MIB), (0.02, 0.04)),
)

DUPLICATE = (0.10, 0.25)
"""Ratio of a guest's memory that others have too. Difference Engine (OSDI 2008) finds more in like guests, Satori (USENIX ATC 2009)
less in mixed ones."""


def draw_workload(random_source: random.Random, memory_kib: float) -> tuple[str, Workload]:
    """The kind's name, and a workload of that kind for a guest of so much memory."""
    kind = random_source.choices(KINDS, [kind.weight for kind in KINDS])[0]
    uniform = random_source.uniform
    period = uniform(*kind.period)
    return kind.name, Workload(
        base=uniform(*kind.base) * memory_kib,
        burst=uniform(*kind.burst) * memory_kib,
        period=period,
        duty=kind.duty,
        phase=uniform(0.0, period),
        files=uniform(*kind.files) * memory_kib,
        read_rate=uniform(*kind.read_rate),
        hot_cache=uniform(*kind.hot_cache) * memory_kib,
        duplicate=uniform(*DUPLICATE),
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
        """What it holds at that moment, in KiB."""
        running = time - self.begins
        if running <= 0 or running >= self.lasts:
            return 0.0
        return min(self.peak, running * self.rate)
