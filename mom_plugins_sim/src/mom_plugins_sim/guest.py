"""Memory of one simulated guest, reactions of its kernel, and statistics that its balloon driver sends. Sizes in KiB."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_kvm import SeenGuest, stale_seconds
from mom_plugins_sim.workload import COLD_RATE, Workload

MIB = 1024

BALLOON_RATE = 0.86 * 1024 * MIB
"""KiB/s of a virtio balloon, measured on QEMU with KVM."""

GROWTH_RATE = 320 * MIB
"""KiB/s at which a program fills fresh memory. Median of measurements."""

SWAP_RATE = 200 * MIB
"""KiB/s to and from a guest's swap: a virtual disk on an SSD, 4 KiB pages."""

PAGE = 4

STARVING_SECONDS = 0.15
"""How long a program waits for memory, without free swap, before the OOM killer acts.

Median of measurements. While swap has room, the kernel only stalls the program.
"""

RESTART_SECONDS = 30.0
"""Time from an OOM kill until the program has restarted and read its data."""

FAULT_SECONDS = 100e-6
"""Seconds to read a page from a virtual disk on an SSD; up to 130 us were measured."""

HUGE_PAGES_FROM = 512 * MIB
"""Memory in KiB below which Linux disables transparent huge pages (mm/huge_memory.c, hugepage_init)."""

DMA32_ENDS = 3 * 1024 * MIB
"""Memory in KiB above which guests of QEMU's usual machines have a third zone."""

MIN_SHARE, HIGH_SHARE = 1 / 1.25, 1.5 / 1.25
"""The min and the high watermark, as multiples of the low watermark."""

REPORTED_RATE = 64 * MIB
REPORTED_SHARE = 1 / 32
"""Free page reporting returns at most this fraction of free memory per second, or `REPORTED_RATE` KiB/s if larger. Every 2 s, Linux
reports 32 blocks of 4 MiB or a sixteenth of the free blocks (page_reporting_cycle)."""

SMALL_PIECES = 0.07
"""Fraction of freed memory that free page reporting does not return. Measured on 450 MiB freed by a program (docs/reporting.md)."""

QEMU_OVERHEAD = 48 * MIB
"""KiB of QEMU's own memory, with KVM. Software emulation needs more: scenarios can set it."""


@dataclass(frozen=True, slots=True)
class GuestTraits:
    """Constant properties of a guest's balloon and process. `balloon_rate` is in KiB/s."""

    balloon_rate: float = BALLOON_RATE
    qemu_overhead: float = QEMU_OVERHEAD
    reporting: bool = False
    autodeflate: bool = False
    small_pieces: float = SMALL_PIECES


USUAL_TRAITS = GuestTraits()


@dataclass(slots=True)
class SimulatedGuestMemory:
    """Memory of a guest; `step` advances it. Counters start at 0.

    :param size: memory that the balloon leaves to the guest; it moves towards `target`, unless the balloon is `stuck`
    :param kernel: memory that is never reclaimed
    :param low: watermark of free memory below which the guest's kernel reclaims
    :param anon: resident anonymous memory
    :param swapped: memory in the guest's own swap, whose size is `swap_total`
    :param cache: page cache
    :param touched: memory that the host backs
    :param demand: memory that the programs demand; `squeezed` is the part that they do not get
    :param lost_seconds: work lost for lack of memory
    :param killed: number of OOM kills; programs run again at `runs_again`
    :param starved: seconds since the programs last made progress
    :param in_small: free memory in blocks too small for free page reporting
    """

    workload: Workload
    maximum: float
    kernel: float
    low: float
    swap_total: float
    size: float
    target: float
    anon: float
    traits: GuestTraits = USUAL_TRAITS
    swapped: float = 0.0
    cache: float = 0.0
    touched: float = 0.0
    demand: float = 0.0
    squeezed: float = 0.0
    swap_in: float = 0.0
    swap_out: float = 0.0
    major_faults: float = 0.0
    minor_faults: float = 0.0
    lost_seconds: float = 0.0
    killed: int = 0
    runs_again: float = 0.0
    starved: float = 0.0
    stuck: bool = False
    in_small: float = 0.0

    @property
    def free(self) -> float:
        """Unused memory."""
        return self.size - self.kernel - self.anon - self.cache

    @property
    def usable(self) -> float:
        """Memory available without swapping, as Linux estimates it (si_mem_available)."""
        cache = self.cache
        return max(0.0, self.size - self.kernel - self.anon - self.low * HIGH_SHARE - min(cache / 2, self.low))

    @property
    def managed(self) -> float:
        """Total memory as the guest's kernel reports it."""
        return self.size - kernel_reserved(self.maximum)

    @property
    def need(self) -> float:
        """Smallest size that fits the programs; only a simulation knows it."""
        return self.kernel + self.low * MIN_SHARE + self.demand


def kernel_reserved(maximum: float) -> float:
    """Return the memory that a guest never sees: its kernel's text and data, and 64 bytes of memory map per page (1.6 %).

    Measured in guests of 192 to 2048 MiB (benchmarks/simulator/measure_guests.py kernel). Much smaller guests are assumed to have smaller
    kernels.
    """
    return 0.0165 * maximum + min(34 * MIB, maximum / 5)


def kernel_size(maximum: float) -> float:
    """Return all memory of a guest's kernel: the reserved part, slab, page tables and daemons.

    The part that is not reserved was measured: 25 to 36.5 MiB.
    """
    return kernel_reserved(maximum) + min(25 * MIB + min(0.01 * maximum, 10 * MIB), maximum / 6)


def low_watermark(maximum: float) -> float:
    """Return a guest's low watermark: the min watermark plus a quarter (mm/page_alloc.c, __setup_per_zone_wmarks).

    The min watermark is the square root of 16 times the managed KiB (init_per_zone_wmark_min). In guests of 512 MiB or more, huge pages
    raise the min watermark to 22 MiB per zone, capped at a twentieth of memory (set_recommended_min_free_kbytes). Measured.
    """
    managed = maximum - kernel_reserved(maximum)
    least = math.sqrt(16 * managed)
    if managed >= HUGE_PAGES_FROM:
        zones = 2 if maximum <= DMA32_ENDS else 3
        least = max(least, min(zones * 22 * MIB, managed / 20))
    return 1.25 * least


def new_guest(
    workload: Workload, maximum: float, swap_total: float, cached: float, traits: GuestTraits = USUAL_TRAITS
) -> SimulatedGuestMemory:
    """Return a guest with a deflated balloon that has been up for a while and has read the fraction `cached` of its files."""
    kernel, low = kernel_size(maximum), low_watermark(maximum)
    anon = max(0.0, min(workload.demand.base, maximum - kernel - low))
    guest = SimulatedGuestMemory(workload, maximum, kernel, low, swap_total, maximum, maximum, anon, traits, demand=anon)
    guest.cache = max(0.0, min(cached * workload.files, guest.free - low))
    guest.touched = min(maximum, kernel + anon + guest.cache)
    return guest


def step(guest: SimulatedGuestMemory, time: float, dt: float) -> None:
    """Advance a guest from `time` to `time + dt` seconds."""
    workload = guest.workload
    guest.demand = demand = workload.demand.at(time)
    if time < guest.runs_again:
        guest.lost_seconds += dt
        guest.demand = demand = 0.0
    held = guest.anon + guest.swapped
    growth = demand - held
    major_faults = guest.major_faults
    if growth < 0:
        kept = demand / held
        guest.in_small += guest.traits.small_pieces * guest.anon * (1 - kept)
        guest.anon *= kept
        guest.swapped *= kept
        growth = 0.0
    elif growth > GROWTH_RATE * dt:
        growth = GROWTH_RATE * dt
    move = 0.0 if guest.stuck else guest.target - guest.size
    inflation = 0.0
    if move > 0:
        guest.size += min(move, guest.traits.balloon_rate * dt)
    elif move < 0:
        inflation = min(-move, guest.traits.balloon_rate * dt)
    if growth or inflation or guest.swapped or guest.squeezed:
        _make_room(guest, growth, inflation, time, dt)
    _read_files(guest, workload.read_rate * dt)
    used = guest.kernel + guest.anon + guest.cache
    guest.touched = max(guest.touched, used)
    if guest.traits.reporting:
        _report_free_pages(guest, guest.touched - used, dt)
    if guest.squeezed or guest.major_faults > major_faults:
        waited = min(dt, (guest.major_faults - major_faults) * FAULT_SECONDS)
        denied = max(0.0, demand - guest.anon - guest.swapped) if guest.squeezed else 0.0
        guest.lost_seconds += min(dt, waited + dt * denied / max(demand, 1.0))


def _read_files(guest: SimulatedGuestMemory, reading: float) -> None:
    """Read files into spare memory, and hot files again from the disk if the cache is too small."""
    workload = guest.workload
    spare = guest.size - guest.kernel - guest.anon - guest.cache - guest.low
    if spare > 0 and reading and guest.cache < workload.files:
        read = min(reading * (1 - guest.cache / workload.files), spare)  # the cache already holds the remainder
        guest.cache += read
        guest.minor_faults += read / (PAGE * 16)  # Linux maps 16 pages of a file per fault
    missing = workload.hot_cache - guest.cache
    if missing > 0 and reading:
        guest.major_faults += reading * missing / workload.hot_cache / PAGE  # refaults


def _make_room(guest: SimulatedGuestMemory, growth: float, inflation: float, time: float, dt: float) -> None:
    """Make room for growth, swap-in and inflation: drop cache, then swap out, then slow the balloon, then kill the programs."""
    back = min(guest.swapped, SWAP_RATE * dt)
    if guest.swapped > MIB:
        back = min(back, dt * _swap_touch_rate(guest, time))
    over = guest.anon + growth + back + guest.cache + inflation - (guest.size - guest.kernel - guest.low)
    out, tight = 0.0, False
    if over > 0:
        over, back, out, tight = _reclaim(guest, over, back, dt)
    over -= guest.low * (1 - MIN_SHARE)  # after reclaim, programs may use memory below the low watermark, down to the min watermark
    if over > 0:
        less = min(over, inflation)
        inflation -= less
        over -= less
    if over > 0 and guest.traits.autodeflate and not out:
        over -= _autodeflate(guest, over)
    if over > 0 and growth > 0:
        if not out:
            guest.starved += dt * over / growth  # the programs ran during the rest of the step
            if guest.starved >= STARVING_SECONDS:
                _kill(guest, time)
                return
        growth = max(0.0, growth - over)
    else:
        guest.starved = 0.0
    guest.anon += growth + back
    guest.swapped -= back
    guest.swap_in += back
    guest.major_faults += back / PAGE
    guest.minor_faults += growth / PAGE
    guest.squeezed = max(0.0, guest.demand - guest.anon) if tight else 0.0  # with room, programs get swapped memory by touching it
    if inflation > 0:
        _inflate(guest, inflation)


def _reclaim(guest: SimulatedGuestMemory, over: float, back: float, dt: float) -> tuple[float, float, float, bool]:
    """Drop cache and swap out until `over` KiB fit, including `back` KiB of swap-in.

    Return the KiB that still do not fit, the KiB swapped in and the KiB swapped out. The last value is True if dropping cache was not
    enough.
    """
    dropped = min(over, guest.cache)
    guest.cache -= dropped
    over -= dropped
    if over <= 0:
        return over, back, 0.0, False
    # Programs touch their swapped pages even without room for them, so as many pages go out as come in.
    less = min(over, back)
    thrashed = less / 2
    guest.swap_in += thrashed
    guest.swap_out += thrashed
    guest.major_faults += thrashed / PAGE
    out = min(over - less, SWAP_RATE * dt, guest.swap_total - guest.swapped, guest.anon)
    guest.anon -= out
    guest.swapped += out
    guest.swap_out += out
    return over - less - out, back - less, out, True


def _swap_touch_rate(guest: SimulatedGuestMemory, time: float) -> float:
    workload, held = guest.workload, guest.anon + guest.swapped
    cold = min(workload.cold_at(time), held)
    rare = min(guest.swapped, cold)
    rate = workload.touch_rate * (guest.swapped - rare) / (held - cold) if held > cold else 0.0
    return rate + (COLD_RATE * rare / cold if cold else 0.0)


def _kill(guest: SimulatedGuestMemory, time: float) -> None:
    """Kill all programs of the guest. Linux would kill only the largest (mm/oom_kill.c)."""
    guest.killed += 1
    guest.runs_again = time + RESTART_SECONDS
    guest.anon = guest.swapped = guest.squeezed = guest.starved = 0.0


def _autodeflate(guest: SimulatedGuestMemory, over: float) -> float:
    """Deflate by up to `over` KiB, and make the new size the target (virtio_balloon_oom_notify). Return the KiB deflated."""
    deflation = min(over, guest.maximum - guest.size)
    guest.size += deflation
    guest.target = guest.size
    return deflation


def _report_free_pages(guest: SimulatedGuestMemory, free: float, dt: float) -> None:
    """Return large blocks of free memory to the host.

    :param free: KiB freed and still backed
    """
    guest.in_small = min(guest.in_small, free)
    whole = free - guest.in_small
    guest.touched -= min(whole, max(REPORTED_RATE, REPORTED_SHARE * whole) * dt)


def _inflate(guest: SimulatedGuestMemory, inflation: float) -> None:
    """Move free pages to the balloon, the most recently freed first: backed pages come before untouched ones."""
    touched_free = max(0.0, guest.touched - (guest.kernel + guest.anon + guest.cache))
    guest.size -= inflation
    guest.touched = min(guest.touched - min(touched_free, inflation), guest.size)


class SentFigures(NamedTuple):
    """One set of statistics from a guest. None if unknown: the first set has no rates."""

    mem_available: int | None = None
    mem_unused: int | None = None
    mem_usable: int | None = None
    mem_disk_caches: int | None = None
    swap_in: int | None = None
    swap_out: int | None = None
    major_fault: int | None = None
    minor_fault: int | None = None


NOTHING: Final = SentFigures()


@dataclass(slots=True)
class SentStatistics:
    """Statistics of one guest: sent every `period` seconds, last at the time `at`, next at `due`. A `silent` driver sends none."""

    period: float
    due: float
    silent: bool = False
    at: float = 0.0
    latest: SentFigures = NOTHING
    since: float = 0.0
    _counters: tuple[float, float, float, float] | None = None

    def send(self, guest: SimulatedGuestMemory, time: float) -> None:
        """Send statistics if they are due. Like a real guest, send them even if short of memory (docs/simulator.md)."""
        if time < self.due or self.silent:
            return
        counters = (guest.swap_in, guest.swap_out, guest.major_faults, guest.minor_faults)
        before = self._counters
        rates: tuple[int | None, ...] = (None,) * len(counters)
        elapsed = time - self.at
        if before is not None and elapsed > 0:
            rates = tuple([round((now - then) / elapsed) for now, then in zip(counters, before, strict=True)])
        self.latest = SentFigures(int(guest.managed), int(guest.free), int(guest.usable), int(guest.cache), *rates)
        self._counters, self.at = counters, time
        self.due = max(self.due + self.period, time)

    def at_time(self, time: float) -> tuple[SentFigures, float | None]:
        """Return the latest statistics (`NOTHING` if stale) and their age in seconds (None if none were sent yet)."""
        if self.latest is NOTHING:
            return NOTHING, None
        age = time - self.at
        figures = self.latest if age <= stale_seconds(self.period) else NOTHING
        return figures, round(age * 1000) / 1000  # a third of the time of round(…, 3)

    def silence(self, time: float) -> str:
        """Return why a silent driver counts as failed; an empty string if it does not."""
        age = None if self.latest is NOTHING else time - self.at
        return SeenGuest.driver_silence(age, time - self.since, self.period)
