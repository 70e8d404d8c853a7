"""The host's and one guest's memory, as everything that sizes guests takes it. Built in `seen.py`, once in each cycle.

Sizes are KiB, times are seconds. None: unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from mom_kvm import HealthLimits
from mom_plugins_balloon.names import CONTROL, KEPT, LEAST, START_REST, SWEPT_NOW
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS

STALL_FAULTS: Final = 50.0
"""Major faults a second. At 100 us each, a guest loses half a percent of its time. All programs cause a few."""

STALL_PERCENT: Final = 2.0
"""Percent of time that some program waited for memory (PSI, 10 s average). A moving balloon alone costs one percent."""

FREE_SHARE: Final = 0.5
"""Ratio of usable memory. With more of it free, faults read files for the first time, and the guest does not lack memory."""


class HostMemory(NamedTuple):
    """Memory of the host, and its watermarks."""

    available: float
    high: float
    """Watermark: with less available, guests give memory."""
    hard: float
    """Watermark: with less available, guests give margins and headroom. At most `high`."""
    low: float
    """Watermark: with less available, no guest grows beyond its guarantee. At most `hard`."""
    reserved: float = 0.0
    """Kept for launches."""
    cold: float = 0.0
    """Gained from cold memory in the last cycle."""
    interval: float = 5.0
    """Seconds between two cycles."""
    backs_bursts: bool = False
    """Headroom for bursts must be available on the host (goal `safe`)."""
    reaction: float = UNKNOWN_REACTION_SECONDS
    """Seconds until a guest that grows during its sweep has its headroom back."""
    ahead: float = 0.0
    """To be available besides, for memory that guests are expected to take."""
    cycle: int = 0
    """Number of the cycle."""

    @property
    def free(self) -> float:
        """Available memory that is not reserved."""
        return self.available - self.reserved


class KernelStatistics(NamedTuple):
    """Statistics that the guest's kernel reports through its balloon driver."""

    usable: float | None = None
    age: float | None = None
    total: float | None = None
    """Memory that the kernel counts as its own."""
    unused: float | None = None
    """Free memory that holds nothing, not even page cache."""
    usable_soon: float | None = None
    """Forecast of `usable`."""
    swap_in: float | None = None
    """KiB/s."""
    swap_out: float | None = None
    """KiB/s."""
    major_faults: float | None = None
    """Page faults a second that wait for a disk."""
    caches: float | None = None
    """Page cache."""
    stalled: float | None = None
    """Percent of time that programs waited for memory (PSI, 10 s average)."""
    kills: float | None = None
    """Programs that the kernel has killed since its start."""

    def stalls(self, usable: float) -> bool:
        """Return whether the guest waits and lacks memory. A guest that reads files into free memory does not lack any."""
        if self.unused is not None and self.unused > FREE_SHARE * usable:
            return False
        swap_in, faults, stalled = self.swap_in or 0.0, self.major_faults or 0.0, self.stalled or 0.0
        return swap_in > HealthLimits.SWAP_IN_KIB or faults > STALL_FAULTS or stalled > STALL_PERCENT

    def cache_share(self, usable: float, away: float) -> float:
        """Return the ratio of usable memory that is page cache.

        :param away: KiB that would be usable as well, if the balloon had not taken them for a moment
        """
        caches, unused = self.caches, self.unused
        if caches is None:
            caches = 0.0 if unused is None else max(0.0, usable - unused)
        whole = caches + (max(0.0, usable - caches) if unused is None else unused) + away
        return caches / whole if whole > 0 else 0.0

    @property
    def swapping(self) -> float:
        """Swap traffic in the direction that has more, in KiB/s; unknown counts as none."""
        swap_in, swap_out = self.swap_in or 0.0, self.swap_out or 0.0
        return swap_in if swap_in > swap_out else swap_out


class ProcessMemory(NamedTuple):
    """Memory of the guest's QEMU process, as the host's kernel tells it."""

    rss: float | None = None
    qemu_overhead: float | None = None
    """Part of `rss` that is QEMU's own."""
    host_swap: float | None = None
    hollow: float | None = None
    """Memory that the host got back and the guest has not touched since. A balloon mostly gets it first."""
    freed_age: float | None = None
    """Time since the guest was last seen to free memory; None: not lately."""

    @property
    def backed(self) -> float | None:
        """Guest memory that the host backs."""
        return None if self.rss is None or self.qemu_overhead is None else self.rss - self.qemu_overhead


class Habits(NamedTuple):
    """Memory use that mom has learned from the guest's past."""

    kernel_reserved: float | None = None
    """Memory that the guest's kernel does not count in `KernelStatistics.total`."""
    counts_balloon: float | None = None
    """1: `KernelStatistics.total` includes the memory in its balloon (Windows, autodeflate)."""
    peak: float | None = None
    """Largest recent use."""
    recent_growth: float = 0.0
    """Growth of its use, or of its process, since the statistics before."""
    stall_floor: float | None = None
    """Usable memory below which the guest was seen to stall, or its kernel to kill programs."""
    kill_floor: float | None = None
    """Part of that below which its kernel killed programs."""
    cache_share: float | None = None
    """Ratio of usable memory that is page cache."""
    growth_rate: float | None = None
    """KiB/s that the guest may take."""
    burst: float | None = None
    """Rise of its use that came more than once lately."""
    kept_headroom: float | None = None
    """Usable memory that it got when it ran out, less than a minute ago."""


class SweepState(NamedTuple):
    """Facts that decide whether the guest may be swept (inflate its balloon, then deflate it at once), and how deep."""

    rest: float | None = None
    """Time until it may be swept again."""
    missed: float | None = None
    """Memory that recent sweeps were for and did not get."""
    under_way: float | None = None
    """1 while its balloon inflates for a sweep."""
    reporting: float | None = None
    """1: its kernel reports free pages to the host by itself (free page reporting)."""
    autodeflate: float | None = None
    """1: its balloon deflates by itself when its kernel runs out of memory."""


class GuestMemory(NamedTuple):
    """Memory of one guest in one cycle."""

    size: float | None = None
    """Size that its balloon leaves it."""
    maximum: float | None = None
    """Largest size it can have: its own maximum, or less by the memory limit of its control group."""
    limited_by_group: bool = False
    """`maximum` is that of its control group."""
    guarantee: float = 0.0
    """Largest promise that holds."""
    reach: float | None = None
    """Smallest size to which its balloon can bring it; None: any."""
    statistics: KernelStatistics = KernelStatistics()
    process: ProcessMemory = ProcessMemory()
    habits: Habits = Habits()
    sweeps: SweepState = SweepState()
    target: float | None = None
    """Size that mom asked for last."""
    target_age: float | None = None
    """Time since then."""
    on_its_way: bool = False
    """It has not arrived at `target` yet."""
    largest: float | None = None
    """Largest size that it may have had since its statistics were made."""
    start_rest: float | None = None
    """Time until a guest that was just started gives memory."""
    cost: float | None = None
    """Cost of taking memory from it, relative to an ordinary guest; None: 1."""
    rise: float | None = None
    """Further use that is expected before long; 0: none; None: no forecast."""
    obstacle: str = ""
    """Why it must not shrink whatever it reports; empty: it may."""
    pause: str = ""
    """Why it must not be asked to shrink now, though a shrink under way goes on; empty: it may."""
    unsettled: str = ""
    """Why its size must not be changed at all yet; empty: it may."""


FIELDS: Final[Mapping[str, str]] = {
    "usable": "mem_usable", "age": "stats_age", "total": "mem_available", "unused": "mem_unused", "usable_soon": "mem_usable_soon",
    "swap_in": "swap_in", "swap_out": "swap_out", "major_faults": "major_fault",
    "caches": "mem_disk_caches", "stalled": "guest_psi_memory_some_avg10", "kills": "guest_oom_kills",
    "rss": "rss", "qemu_overhead": "qemu_overhead", "host_swap": "host_swap", "hollow": "mem_hollow", "freed_age": "mem_freed_age",
    "kernel_reserved": "kernel_reserved", "counts_balloon": "kernel_counts_balloon", "peak": "mem_used_peak",
    "stall_floor": "mem_stall_floor", "kill_floor": "mem_kill_floor", "cache_share": "mem_cache_share", "growth_rate": "mem_growth_rate",
    "burst": "mem_burst", "kept_headroom": KEPT,
    "rest": "sweep_rest", "missed": "sweep_missed", "under_way": SWEPT_NOW, "reporting": "balloon_reporting",
    "autodeflate": "balloon_autodeflate",
    "size": "balloon_cur", "reach": LEAST, "target": CONTROL, "target_age": "balloon_target_age", "start_rest": START_REST,
    "cost": "reclaim_cost",
}  # fmt: skip
"""Fields of a snapshot, by their names in the records above. To add a fact, add it to a record and to this table."""


def size_then(guest: GuestMemory) -> float:
    """Return the size of a guest when its statistics were made, never less than the truth.

    Hypervisors report sizes up to a second late, so the kernel's total counts. If it includes the balloon, or is unknown, the largest size
    since then counts.
    """
    total, reserved = guest.statistics.total, guest.habits.kernel_reserved
    if total is not None and reserved is not None and not guest.habits.counts_balloon:
        return total + reserved
    size, largest = guest.size or 0.0, guest.largest
    return largest if largest is not None and largest > size else size
