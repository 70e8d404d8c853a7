"""Records of the host's and of one guest's memory: input of the law, the gate and the sweeps. `seen.py` builds them.

Sizes are KiB, times seconds, None is unknown. Each line of a record names the snapshot's field for a fact. `own` also declares the field
for this plugin, `read` for another plugin. `learning.py` sets the facts in `Habits`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final, NamedTuple, TypeAlias, get_type_hints

from mom_core import FieldSpec, Scope, Unit
from mom_kvm import GuestField, HealthLimits
from mom_plugins_balloon.names import CONTROL, MISSED, REACH, REST, START_REST, SWEPT_NOW
from mom_plugins_balloon.parameters import UNKNOWN_REACTION_SECONDS

STALL_FAULTS: Final = 50.0
"""A guest with more major faults per second than this stalls: at 100 us each, they take 0.5 % of its time."""

STALL_PERCENT: Final = 2.0
"""A guest stalls if its programs wait for memory for more than this percentage of the time (PSI, 10 s). A moving balloon alone
causes 1 %."""

FREE_SHARE: Final = 0.5
"""If more than this ratio of usable memory is free, page faults do not show a shortage: they read new files."""


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
    cold: float = 0.0
    """Host memory gained in the last cycle by moving cold memory to swap."""
    interval: float = 5.0
    backs_bursts: bool = False
    """Whether headroom for bursts must be available on the host (goal `safe`)."""
    keeps_sizes: bool = False
    """Whether guests keep their full sizes above the hard watermark, and are only swept (goal `truthful`)."""
    reaction: float = UNKNOWN_REACTION_SECONDS
    """Seconds until a guest that grows during its sweep has its headroom back."""
    ahead: float = 0.0
    """Memory to keep available for guests' expected growth."""

    @property
    def free(self) -> float:
        """Available memory minus reservations."""
        return self.available - self.reserved


Number: TypeAlias = float | None

_S, _RATE, _RATIO, _FLAG = Unit.SECONDS, Unit.KIB_PER_SECOND, Unit.RATIO, Unit.FLAG


def own(name: str, description: str, unit: Unit = Unit.KIB) -> FieldSpec:
    """Declare a field of this plugin."""
    return FieldSpec(name, unit, Scope.GUEST, description, "mom")


def read(name: str, unit: Unit = Unit.KIB) -> FieldSpec:
    """Declare a field of another plugin."""
    return FieldSpec.reads(name, unit, Scope.GUEST)


class KernelStatistics(NamedTuple):
    """Statistics of the guest's kernel, from its balloon driver."""

    usable: Annotated[Number, "mem_usable"] = None
    age: Annotated[Number, "stats_age"] = None
    total: Annotated[Number, "mem_available"] = None
    unused: Annotated[Number, read("mem_unused")] = None
    """Free memory without page cache."""
    usable_soon: Annotated[Number, read("mem_usable_soon")] = None
    swap_in: Annotated[Number, read("swap_in", _RATE)] = None
    swap_out: Annotated[Number, read("swap_out", _RATE)] = None
    major_faults: Annotated[Number, read("major_fault", Unit.PER_SECOND)] = None
    caches: Annotated[Number, "mem_disk_caches"] = None
    stalled: Annotated[Number, "guest_psi_memory_some_avg10"] = None
    """Percent of time that programs waited for memory (PSI, 10 s average)."""

    def stalls(self, usable: float) -> bool:
        """Return whether the guest waits because it lacks memory. Reading files into free memory does not count."""
        if self.unused is not None and self.unused > FREE_SHARE * usable:
            return False
        swap_in, faults, stalled = self.swap_in or 0.0, self.major_faults or 0.0, self.stalled or 0.0
        return swap_in > HealthLimits.SWAP_KIB or faults > STALL_FAULTS or stalled > STALL_PERCENT

    def cache_share(self, usable: float, away: float) -> float:
        """Return the fraction of usable memory that is page cache.

        :param away: KiB in the balloon during a sweep
        """
        caches, unused = self.caches, self.unused
        if caches is None:
            caches = 0.0 if unused is None else max(0.0, usable - unused)
        whole = caches + (max(0.0, usable - caches) if unused is None else unused) + away
        return caches / whole if whole > 0 else 0.0

    @property
    def swaps_in(self) -> bool:
        """Whether the guest lacks memory: it reads much from its swap."""
        return (self.swap_in or 0.0) > HealthLimits.SWAP_KIB

    @property
    def waits_for_disk(self) -> bool:
        """Whether the guest waits for pages that it reads from its disk."""
        return (self.major_faults or 0.0) > HealthLimits.MAJOR_FAULTS

    @property
    def swapping(self) -> float:
        """Swap traffic of the busier direction in KiB/s; unknown counts as 0."""
        swap_in, swap_out = self.swap_in or 0.0, self.swap_out or 0.0
        return swap_in if swap_in > swap_out else swap_out


class ProcessMemory(NamedTuple):
    """Memory of the guest's QEMU process."""

    rss: Annotated[Number, read("rss")] = None
    measured_overhead: Annotated[Number, read(GuestField.QEMU_OVERHEAD)] = None
    """Last measured `Habits.qemu_overhead`."""
    host_swap: Annotated[Number, read("host_swap")] = None


class Habits(NamedTuple):
    """Facts that mom has learned about a guest."""

    peak: Annotated[Number, own("mem_used_peak", "largest recent memory use by the guest's kernel and programs")] = None
    used_before: Annotated[Number, own("mem_used_before", "use by the guest's kernel and programs in the previous statistics")] = None
    cache_share: Annotated[Number, own("mem_cache_share", "recent share of page cache in the guest's usable memory", _RATIO)] = None
    kernel_reserved: Annotated[Number, own("kernel_reserved", "memory that the guest's kernel does not count in its total")] = None
    rss_before: Annotated[Number, own("rss_before", "RSS of the guest's process in the previous cycle")] = None
    qemu_overhead: Annotated[Number, own("qemu_overhead", "QEMU's own part of its process's memory; 64 MiB until it is measured")] = None
    stall_floor: Annotated[Number, own("mem_stall_floor", "usable memory below which the guest stalled, or programs were killed")] = None
    kill_floor: Annotated[Number, own("mem_kill_floor", "usable memory below which programs were killed")] = None
    """Never above `stall_floor`."""
    counts_balloon: Annotated[
        Number, own("kernel_counts_balloon", "1 if the guest's kernel counts memory in the balloon in its total", _FLAG)
    ] = None
    """1 for Windows guests, and with autodeflate."""
    growth_rate: Annotated[Number, own("mem_growth_rate", "memory that the guest may take from the host in a second", _RATE)] = None
    burst: Annotated[Number, own("mem_burst", "height of the recent, repeated rises of the guest's memory use to near its peak")] = None
    freed_age: Annotated[Number, own("mem_freed_age", "time since the guest last freed memory, if that was recently", _S)] = None
    hollow: Annotated[Number, own("mem_hollow", "memory that the host reclaimed, and that the guest has not touched since")] = None
    """The balloon usually takes this memory first."""
    kept_headroom: Annotated[
        Number, own("mem_kept_headroom", "usable memory that mom gave the guest after it ran out of memory in the last minute")
    ] = None


class SweepState(NamedTuple):
    """Whether mom may sweep the guest, and how much memory a sweep may take."""

    rest: Annotated[Number, own(REST, "time until the guest may be swept again; unknown if it may be swept now", _S)] = None
    missed: Annotated[Number, own(MISSED, "memory that sweeps of the last ten minutes should have reclaimed, but did not")] = None
    under_way: Annotated[Number, own(SWEPT_NOW, "1 while the guest is swept, otherwise unknown", _FLAG)] = None
    reporting: Annotated[Number, GuestField.REPORTING] = None
    """1 with free page reporting."""
    autodeflate: Annotated[Number, GuestField.AUTODEFLATE] = None
    """1 if the balloon deflates by itself when the guest's kernel runs out of memory."""


class GuestMemory(NamedTuple):
    """Memory of one guest in one cycle."""

    size: Annotated[Number, "balloon_cur"] = None
    """Memory that the balloon leaves to the guest."""
    maximum: Number = None
    """Largest possible size: the guest's maximum, or less due to the limit of its control group."""
    guarantee: float = 0.0
    """As much of the guest's largest promise as the host can keep."""
    reach: Annotated[Number, read(REACH)] = None
    """Smallest size that the balloon can reach; None for any size."""
    statistics: KernelStatistics = KernelStatistics()
    process: ProcessMemory = ProcessMemory()
    habits: Habits = Habits()
    sweeps: SweepState = SweepState()
    target: Annotated[Number, own(CONTROL, "last balloon target that mom set for the guest; unknown if mom set none")] = None
    target_age: Annotated[Number, own("balloon_target_age", "time since mom set the last balloon target", _S)] = None
    on_its_way: bool = False
    largest: Number = None
    """Largest size that the guest may have had since its last statistics."""
    on_credit: Annotated[Number, read("memory_credit", _FLAG)] = None
    """1 if mom limits the guest's growth."""
    start_rest: Annotated[Number, own(START_REST, "time until mom may shrink the guest, which has just started", _S)] = None
    cost: Annotated[Number, read("reclaim_cost", _RATIO)] = None
    """Cost of taking memory, relative to an ordinary guest; None for 1."""
    rise: Number = None
    """Expected growth; None without a forecast."""
    obstacle: str = ""
    """Why the guest must not shrink, whatever it reports; empty if it may."""
    pause: str = ""
    """Why no shrink may begin now, such as a migration (a running shrink continues); empty if one may."""
    origin_unknown: str = ""
    """Why the guest's original size is unknown, so that its size must not change yet; empty if known."""

    @property
    def backed(self) -> float | None:
        """Guest memory that the host backs."""
        rss, qemu_overhead = self.process.rss, self.habits.qemu_overhead
        return None if rss is None or qemu_overhead is None else rss - qemu_overhead

    @property
    def recent_growth(self) -> float:
        """Growth of the guest's use since the previous statistics, or of its RSS since the previous cycle; the larger counts."""
        habits, total, usable, rss = self.habits, self.statistics.total, self.statistics.usable, self.process.rss
        by_kernel = by_process = 0.0
        if habits.used_before is not None and habits.peak is not None and total is not None and usable is not None:
            by_kernel = total - usable - habits.used_before
        if rss is not None and habits.rss_before is not None:
            by_process = rss - habits.rss_before
        return max(0.0, by_kernel, by_process)


PARTS: Final = {"statistics": KernelStatistics, "process": ProcessMemory, "habits": Habits, "sweeps": SweepState}


def _facts() -> Iterator[tuple[str, FieldSpec | str]]:
    for record in (*PARTS.values(), GuestMemory):
        for name, hint in get_type_hints(record, include_extras=True).items():
            for fact in getattr(hint, "__metadata__", ()):
                yield name, fact


FIELDS: Final[Mapping[str, str]] = {name: fact if isinstance(fact, str) else fact.name for name, fact in _facts()}
"""Names of a snapshot's fields, keyed by attribute."""

FACTS: Final[Sequence[FieldSpec]] = [fact for _, fact in _facts() if isinstance(fact, FieldSpec)]
"""Declarations by `own` and `read`."""


def guaranteed_size(guest: GuestMemory) -> float:
    """Return the guest's guarantee, capped at its maximum."""
    return guest.guarantee if guest.maximum is None else min(guest.guarantee, guest.maximum)


def newer_by(guest: GuestMemory) -> float:
    """Return by how many seconds the guest's statistics are newer than its last resize. Infinite if mom has not resized it."""
    age, changed = guest.statistics.age, guest.target_age
    return math.inf if age is None or changed is None else changed - age


def size_then(guest: GuestMemory) -> float:
    """Return the guest's size when its statistics were made, or a larger size.

    Hypervisors report sizes up to a second late, so the kernel's total counts. If it includes the balloon or is unknown, the largest size
    since then counts.
    """
    total, reserved = guest.statistics.total, guest.habits.kernel_reserved
    if total is not None and reserved is not None and not guest.habits.counts_balloon:
        return total + reserved
    size, largest = guest.size or 0.0, guest.largest
    return largest if largest is not None and largest > size else size
