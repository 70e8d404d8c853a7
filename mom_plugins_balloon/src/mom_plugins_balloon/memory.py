"""Records of the host's and of one guest's memory: input of the law, the gate and the sweeps. `seen.py` builds them.

Sizes are KiB, times seconds, None is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from mom_kvm import GuestField, HealthLimits
from mom_plugins_balloon.names import CONTROL, KEPT, LEAST, START_REST, SWEPT_NOW
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS

STALL_FAULTS: Final = 50.0
"""Major faults per second. At 100 us each, they take 0.5 % of a guest's time. All programs cause a few."""

STALL_PERCENT: Final = 2.0
"""Percent of time that programs waited for memory (PSI, 10 s). A moving balloon alone causes 1 %."""

FREE_SHARE: Final = 0.5
"""Ratio of usable memory. If more is free, faults only read files for the first time."""


class HostMemory(NamedTuple):
    """Memory and watermarks of the host."""

    available: float
    high: float
    """Watermark: below it, mom takes memory from guests."""
    hard: float
    """Watermark, at most `high`: below it, mom takes headroom for bursts too."""
    low: float
    """Watermark, at most `hard`: below it, no guest grows beyond its guarantee."""
    reserved: float = 0.0
    """Memory reserved for launches."""
    cold: float = 0.0
    """Gain from cold memory in the last cycle."""
    interval: float = 5.0
    backs_bursts: bool = False
    """Whether headroom for bursts must be available on the host (goal `safe`)."""
    keeps_sizes: bool = False
    """Whether guests keep their full sizes above the hard watermark, and are only swept (goal `truthful`)."""
    reaction: float = UNKNOWN_REACTION_SECONDS
    """Seconds until a guest that grows during its sweep has its headroom back."""
    ahead: float = 0.0
    """Memory to keep available for guests' expected growth."""
    cycle: int = 0

    @property
    def free(self) -> float:
        """Available memory without reservations."""
        return self.available - self.reserved


class KernelStatistics(NamedTuple):
    """Statistics of the guest's kernel, from its balloon driver."""

    usable: float | None = None
    age: float | None = None
    total: float | None = None
    """Total memory that the guest's kernel reports."""
    unused: float | None = None
    """Free memory without page cache."""
    usable_soon: float | None = None
    swap_in: float | None = None
    """KiB/s."""
    swap_out: float | None = None
    """KiB/s."""
    major_faults: float | None = None
    """Per second."""
    caches: float | None = None
    stalled: float | None = None
    """Percent of time that programs waited for memory (PSI, 10 s average)."""
    kills: float | None = None
    """Programs killed since the guest's boot."""

    def stalls(self, usable: float) -> bool:
        """Return whether the guest waits because it lacks memory. Reading files into free memory does not count."""
        if self.unused is not None and self.unused > FREE_SHARE * usable:
            return False
        swap_in, faults, stalled = self.swap_in or 0.0, self.major_faults or 0.0, self.stalled or 0.0
        return swap_in > HealthLimits.SWAP_IN_KIB or faults > STALL_FAULTS or stalled > STALL_PERCENT

    def cache_share(self, usable: float, away: float) -> float:
        """Return the ratio of usable memory that is page cache.

        :param away: KiB in the balloon during a sweep
        """
        caches, unused = self.caches, self.unused
        if caches is None:
            caches = 0.0 if unused is None else max(0.0, usable - unused)
        whole = caches + (max(0.0, usable - caches) if unused is None else unused) + away
        return caches / whole if whole > 0 else 0.0

    @property
    def swapping(self) -> float:
        """Swap traffic of the busier direction in KiB/s; unknown counts as 0."""
        swap_in, swap_out = self.swap_in or 0.0, self.swap_out or 0.0
        return swap_in if swap_in > swap_out else swap_out


class ProcessMemory(NamedTuple):
    """Memory of the guest's QEMU process."""

    rss: float | None = None
    qemu_overhead: float | None = None
    """QEMU's own part of `rss`."""
    measured_overhead: float | None = None
    """Last measured `qemu_overhead`."""
    host_swap: float | None = None
    hollow: float | None = None
    """Memory that the host does not back. A balloon mostly gets it first."""
    freed_age: float | None = None
    """Time since the guest last freed memory; None if that was not recently."""

    @property
    def backed(self) -> float | None:
        """Guest memory that the host backs."""
        return None if self.rss is None or self.qemu_overhead is None else self.rss - self.qemu_overhead


class Habits(NamedTuple):
    """Learned memory use of a guest."""

    kernel_reserved: float | None = None
    """Memory that `KernelStatistics.total` does not include."""
    counts_balloon: float | None = None
    """1 if `KernelStatistics.total` includes the memory in the balloon (Windows, autodeflate)."""
    peak: float | None = None
    recent_growth: float = 0.0
    """Growth of its use or RSS since the previous statistics."""
    stall_floor: float | None = None
    """Usable memory below which the guest stalled, or its kernel killed programs."""
    kill_floor: float | None = None
    """Usable memory below which its kernel killed programs; at most `stall_floor`."""
    cache_share: float | None = None
    """Ratio of usable memory that is page cache."""
    growth_rate: float | None = None
    """KiB/s that the guest may grow by."""
    burst: float | None = None
    """Rise of its use that came more than once recently."""
    kept_headroom: float | None = None
    """Usable memory that the guest got when it ran out, less than a minute ago."""


class SweepState(NamedTuple):
    """Whether mom may sweep the guest, and how much memory a sweep may take."""

    rest: float | None = None
    missed: float | None = None
    """Memory that recent sweeps were planned for and did not get."""
    under_way: float | None = None
    reporting: float | None = None
    """1 with free page reporting."""
    autodeflate: float | None = None
    """1 if the balloon deflates by itself when the guest's kernel runs out of memory."""


class GuestMemory(NamedTuple):
    """Memory of one guest in one cycle."""

    size: float | None = None
    """Memory that the balloon leaves to the guest."""
    maximum: float | None = None
    """Largest possible size: the guest's maximum, or less due to the limit of its control group."""
    limited_by_group: bool = False
    guarantee: float = 0.0
    """Part of the largest promise that the host can keep."""
    reach: float | None = None
    """Smallest size that the balloon can reach; None for any size."""
    statistics: KernelStatistics = KernelStatistics()
    process: ProcessMemory = ProcessMemory()
    habits: Habits = Habits()
    sweeps: SweepState = SweepState()
    target: float | None = None
    """Last requested size."""
    target_age: float | None = None
    on_its_way: bool = False
    largest: float | None = None
    """Largest possible size since the statistics were made."""
    on_credit: float | None = None
    """1 if mom limits its growth, so that bursts cannot exhaust the host."""
    start_rest: float | None = None
    """Time until mom takes memory from a new guest."""
    cost: float | None = None
    """Cost of taking memory, relative to an ordinary guest; None for 1."""
    rise: float | None = None
    """Expected growth; None without a forecast."""
    obstacle: str = ""
    """Why the guest must not shrink, whatever it reports; an empty string if it may."""
    pause: str = ""
    """Why no new shrink may begin now, although a running shrink continues; an empty string if one may."""
    unsettled: str = ""
    """Why the size must not change at all yet; an empty string if it may."""


FIELDS: Final[Mapping[str, str]] = {
    "usable": "mem_usable", "age": "stats_age", "total": "mem_available", "unused": "mem_unused", "usable_soon": "mem_usable_soon",
    "swap_in": "swap_in", "swap_out": "swap_out", "major_faults": "major_fault",
    "caches": "mem_disk_caches", "stalled": "guest_psi_memory_some_avg10", "kills": "guest_oom_kills",
    "rss": "rss", "qemu_overhead": "qemu_overhead", "measured_overhead": GuestField.QEMU_OVERHEAD,
    "host_swap": "host_swap", "hollow": "mem_hollow", "freed_age": "mem_freed_age",
    "kernel_reserved": "kernel_reserved", "counts_balloon": "kernel_counts_balloon", "peak": "mem_used_peak",
    "stall_floor": "mem_stall_floor", "kill_floor": "mem_kill_floor", "cache_share": "mem_cache_share", "growth_rate": "mem_growth_rate",
    "burst": "mem_burst", "kept_headroom": KEPT,
    "rest": "sweep_rest", "missed": "sweep_missed", "under_way": SWEPT_NOW, "reporting": "balloon_reporting",
    "autodeflate": "balloon_autodeflate",
    "size": "balloon_cur", "reach": LEAST, "target": CONTROL, "target_age": "balloon_target_age", "start_rest": START_REST,
    "cost": "reclaim_cost", "on_credit": "memory_credit",
}  # fmt: skip
"""Fields of a snapshot keyed by attribute. To add a fact, add it to a record and to this table."""


def guaranteed_size(guest: GuestMemory) -> float:
    """Return the guest's guarantee, at most its maximum."""
    return guest.guarantee if guest.maximum is None else min(guest.guarantee, guest.maximum)


def size_then(guest: GuestMemory) -> float:
    """Return the guest's size when its statistics were made, or more.

    Hypervisors report sizes up to a second late, so the kernel's total counts. If the total includes the balloon or is unknown, the largest
    size since then counts.
    """
    total, reserved = guest.statistics.total, guest.habits.kernel_reserved
    if total is not None and reserved is not None and not guest.habits.counts_balloon:
        return total + reserved
    size, largest = guest.size or 0.0, guest.largest
    return largest if largest is not None and largest > size else size
