"""One guest's memory: what its kernel does when programs want more, when the balloon moves, and when there is too little. Sizes in KiB."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mom_plugins_sim.workload import Workload

MIB = 1024

BALLOON_RATE = 0.86 * 1024 * MIB
"""KiB/s that a virtio balloon moves: measured on QEMU with KVM. Without KVM on an idle machine (benchmarks/simulator/measure_guests.py
balloon), 1.34 GiB/s of free memory, 0.96 GiB/s of page cache, and 2.7 GiB/s on the way back: scenarios can set it."""

GROWTH_RATE = 320 * MIB
"""KiB/s at which a program can fill fresh memory: the measured rate of one that writes every page. Without KVM, on a machine with two CPUs
and other things to do, it was between 144 and 736 MiB/s (benchmarks/simulator/measure_guests.py killer), median 320."""

SWAP_RATE = 200 * MIB
"""KiB/s to and from a guest's swap: a virtual disk on an SSD, four-kilobyte pages."""

PAGE = 4

STARVING_SECONDS = 0.15
"""How long a program that wants more than there is waits before it is killed, when there is no swap left to make room with. Measured
(benchmarks/simulator/measure_guests.py killer): 0.09 to 0.49 s in guests with nothing to reclaim, and with page cache in use; median
0.15 s. While swap takes pages, the kernel makes progress and only stalls it: guests of 1 GiB whose growth stalled for 4.8 s lived."""

RESTART_SECONDS = 30.0
"""How long it takes until what the guest's kernel killed runs again: a supervisor restarts it, it starts, it reads its data."""

FAULT_SECONDS = 100e-6
"""The time that a program waits for a page that comes from a disk: a virtual disk on an SSD. A real one lost 2.5 s of work to about 19,000
of them: 130 us each."""

HUGE_PAGES_FROM = 512 * MIB
"""With less, Linux has no transparent huge pages (mm/huge_memory.c, hugepage_init)."""

DMA32_ENDS = 3 * 1024 * MIB
"""Guests of QEMU's usual machines have a third zone beyond."""

MIN_SHARE, HIGH_SHARE = 1 / 1.25, 1.5 / 1.25
"""The watermarks below and above the low one, as ratios of it."""

REPORTED_RATE = 64 * MIB
REPORTED_SHARE = 1 / 32
"""KiB/s, and a ratio a second: what a guest with free page reporting hands back of the large pieces that are free, whichever is more. Linux
does so every 2 s, 32 pieces of 4 MiB, or a sixteenth of them (mm/page_reporting.c, page_reporting_cycle)."""

SMALL_PIECES = 0.07
"""A ratio. Of 450 MiB that a program had freed, so much was not handed back (docs/reporting.md)."""

SUPERVISION = 48 * MIB
"""The memory that the QEMU process holds beside the guest's memory, with KVM. Software emulation keeps the code that it has translated,
too: scenarios can set it."""


@dataclass(slots=True)
class SimulatedGuestMemory:
    """A guest's memory at one moment; `step` moves it on.

    `size` is what the balloon leaves, `target` what was asked for. `kernel` is never given back. `anon` is resident anonymous memory,
    `swapped` is in the guest's swap of `swap_total`, `cache` is page cache. `touched` is what the host has backed with memory. `low` is
    the kernel's own watermark, below which it reclaims. A `stuck` balloon does not move, others at `balloon_rate` (KiB/s); `beside` is what
    the guest's process holds beside its memory. The counters count since the start: `killed` how
    often the kernel had to kill the programs, which run again at `runs_again`; `lost_seconds` the work that they could
    not do; `starved` for how long they have waited for memory that does not come. With `reporting`, its kernel hands free memory back by
    itself, but for that in pieces that are too small: `small_share` of what is freed, now `in_small` of it. With `autodeflate` its balloon
    gives memory back before the kernel kills programs.
    """

    workload: Workload
    maximum: float
    kernel: float
    low: float
    swap_total: float
    size: float
    target: float
    anon: float
    swapped: float = 0.0
    cache: float = 0.0
    touched: float = 0.0
    wanted: float = 0.0
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
    balloon_rate: float = BALLOON_RATE
    beside: float = SUPERVISION
    reporting: bool = False
    autodeflate: bool = False
    small_share: float = SMALL_PIECES
    in_small: float = 0.0

    @property
    def free(self) -> float:
        """Memory that holds nothing."""
        return self.size - self.kernel - self.anon - self.cache

    @property
    def usable(self) -> float:
        """Memory that programs can have without swapping, as Linux estimates it: half the cache, or as much as the low watermark, stays,
        and the high watermark (mm/page_alloc.c, si_mem_available)."""
        cache = self.cache
        return max(0.0, self.size - self.kernel - self.anon - self.low * HIGH_SHARE - min(cache / 2, self.low))

    @property
    def managed(self) -> float:
        """The memory that its kernel calls its total."""
        return self.size - reserved_of(self.maximum)

    @property
    def need(self) -> float:
        """The size below which the programs do not fit: only a simulation knows."""
        return self.kernel + self.low * MIN_SHARE + self.wanted


def reserved_of(maximum: float) -> float:
    """The part of its memory that a guest of so much never sees: its kernel's text and data, and the memory map with 64 bytes of every page
    (1.6 %).

    Measured (benchmarks/simulator/measure_guests.py kernel): 37.6, 42.0, 50.7 and 68.2 MiB in guests of 192, 512, 1024 and 2048 MiB.
    Guests much smaller than those have smaller kernels, or they would not start.
    """
    return 0.0165 * maximum + min(34 * MIB, maximum / 5)


def kernel_of(maximum: float) -> float:
    """The memory that the kernel of a guest of so much keeps for itself: that, and its slab, page tables and daemons.

    Measured as above: 25.0, 26.5, 35.3 and 36.5 MiB.
    """
    return reserved_of(maximum) + min(25 * MIB + min(0.01 * maximum, 10 * MIB), maximum / 6)


def low_of(maximum: float) -> float:
    """Its low watermark, a quarter above the one at which programs get nothing any more (mm/page_alloc.c, __setup_per_zone_wmarks).

    That is min_free_kbytes: the root of 16 times the KiB there are (init_per_zone_wmark_min), and, where there are huge pages, which takes
    512 MiB, 22 MiB for each zone, at most a twentieth (mm/khugepaged.c, set_recommended_min_free_kbytes). Measured: guests of 192, 512,
    1024 and 2048 MiB call 1.2, 5.7, 70.7 and 74.6 MiB of what is free and cached not usable.
    """
    managed = maximum - reserved_of(maximum)
    least = math.sqrt(16 * managed)
    if managed >= HUGE_PAGES_FROM:
        zones = 2 if maximum <= DMA32_ENDS else 3
        least = max(least, min(zones * 22 * MIB, managed / 20))
    return 1.25 * least


def new_guest(workload: Workload, maximum: float, swap_total: float, cached: float, size: float | None = None) -> SimulatedGuestMemory:
    """A guest that has been up for a while, and has read so much (ratio) of its files.

    :param size: what a balloon leaves it already, in KiB; None: it is empty
    """
    kernel, low = kernel_of(maximum), low_of(maximum)
    has = maximum if size is None else min(size, maximum)
    anon = max(0.0, min(workload.demand.base, has - kernel - low))
    guest = SimulatedGuestMemory(workload, maximum, kernel, low, swap_total, size=has, target=has, anon=anon, wanted=anon)
    guest.cache = max(0.0, min(cached * workload.files, guest.free - low))
    guest.touched = min(has, kernel + anon + guest.cache)
    return guest


def step(guest: SimulatedGuestMemory, time: float, dt: float) -> None:
    """Move a guest on from `time` to `time + dt` seconds."""
    workload = guest.workload
    guest.wanted = wanted = workload.demand.wanted(time)
    if time < guest.runs_again:
        guest.lost_seconds += dt
        guest.wanted = wanted = 0.0
    held = guest.anon + guest.swapped
    growth = wanted - held
    major_faults = guest.major_faults
    if growth < 0:
        kept = wanted / held
        guest.in_small += guest.small_share * guest.anon * (1 - kept)
        guest.anon *= kept
        guest.swapped *= kept
        growth = 0.0
    elif growth > GROWTH_RATE * dt:
        growth = GROWTH_RATE * dt
    move = 0.0 if guest.stuck else guest.target - guest.size
    taken = 0.0
    if move > 0:
        guest.size += min(move, guest.balloon_rate * dt)
    elif move < 0:
        taken = min(-move, guest.balloon_rate * dt)
    reading = workload.read_rate * dt
    if growth or taken or guest.swapped or guest.squeezed:
        _make_room(guest, growth, taken, time, dt)
    spare = guest.size - guest.kernel - guest.anon - guest.cache - guest.low
    if spare > 0 and reading and guest.cache < workload.files:
        read = min(reading * (1 - guest.cache / workload.files), spare)  # the rest of what is read is in the cache already
        guest.cache += read
        guest.minor_faults += read / (PAGE * 16)  # file reads are mapped in by 16 pages at a time
    missing = workload.hot_cache - guest.cache
    if missing > 0 and reading:
        # What is read again and is not there any more comes from disk, at the rate of reading, by the share that is missing.
        guest.major_faults += reading * missing / workload.hot_cache / PAGE
    used = guest.kernel + guest.anon + guest.cache
    guest.touched = max(guest.touched, used)
    if guest.reporting:
        _report(guest, guest.touched - used, dt)
    if guest.squeezed or guest.major_faults > major_faults:
        waited = min(dt, (guest.major_faults - major_faults) * FAULT_SECONDS)
        denied = max(0.0, wanted - guest.anon - guest.swapped) if guest.squeezed else 0.0
        guest.lost_seconds += min(dt, waited + dt * denied / max(wanted, 1.0))


def _make_room(guest: SimulatedGuestMemory, growth: float, taken: float, time: float, dt: float) -> None:
    """Fit in what programs want, what they want back from swap, and what the balloon takes: cache goes first, then swap is used, then
    the balloon gets less, and at last the kernel kills the programs."""
    back = min(guest.swapped, SWAP_RATE * dt)
    if guest.swapped > MIB:
        back = min(back, dt * _touched(guest, time))
    over = guest.anon + growth + back + guest.cache + taken - (guest.size - guest.kernel - guest.low)
    out, tight = 0.0, False
    if over > 0:
        over, back, out, tight = _reclaim(guest, over, back, dt)
    over -= guest.low * (1 - MIN_SHARE)  # nothing more is reclaimed; now what is above the last watermark goes
    if over > 0:
        less = min(over, taken)
        taken -= less
        over -= less
    if over > 0 and guest.autodeflate and not out:
        over -= _deflate(guest, over)
    if over > 0 and growth > 0:
        if not out:
            guest.starved += dt * over / growth  # it went well for the rest of the step
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
    guest.squeezed = max(0.0, guest.wanted - guest.anon) if tight else 0.0  # with room, what is in swap is there for the touching
    if taken > 0:
        _give_to_host(guest, taken)


def _reclaim(guest: SimulatedGuestMemory, over: float, back: float, dt: float) -> tuple[float, float, float, bool]:
    """Drop cache, and swap out, for what does not fit; how much does not fit still, comes back from swap, and went out, and whether the
    cache was too little."""
    dropped = min(over, guest.cache)
    guest.cache -= dropped
    over -= dropped
    if over <= 0:
        return over, back, 0.0, False
    # No room for what is wanted back from swap. As it is touched all the same, as much goes out as comes in.
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


def _touched(guest: SimulatedGuestMemory, time: float) -> float:
    """KiB/s of its own swap that its programs look at: what they touch least went there first."""
    workload, held = guest.workload, guest.anon + guest.swapped
    cold = min(workload.cold_at(time), held)
    rare = min(guest.swapped, cold)
    rate = workload.touch_rate * (guest.swapped - rare) / (held - cold) if held > cold else 0.0
    return rate + (workload.cold_rate * rare / cold if cold else 0.0)


def _kill(guest: SimulatedGuestMemory, time: float) -> None:
    """There is nothing left to reclaim, and a program wants more: Linux kills the largest, here all that runs (mm/oom_kill.c)."""
    guest.killed += 1
    guest.runs_again = time + RESTART_SECONDS
    guest.anon = guest.swapped = guest.squeezed = guest.starved = 0.0


def _deflate(guest: SimulatedGuestMemory, wanted: float) -> float:
    """The balloon gives back what programs want now, and does not take it again before it is asked for another size
    (drivers/virtio/virtio_balloon.c, virtio_balloon_oom_notify); KiB."""
    given = min(wanted, guest.maximum - guest.size)
    guest.size += given
    guest.target = guest.size
    return given


def _report(guest: SimulatedGuestMemory, free: float, dt: float) -> None:
    """Memory that the guest has used and freed goes back to the host, as far as it lies in large pieces.

    :param free: KiB that it has used and freed, and the host still holds
    """
    guest.in_small = min(guest.in_small, free)
    whole = free - guest.in_small
    guest.touched -= min(whole, max(REPORTED_RATE, REPORTED_SHARE * whole) * dt)


def _give_to_host(guest: SimulatedGuestMemory, taken: float) -> None:
    """The balloon takes free pages, those first that were freed last, and so all that were ever touched before any that was not.

    Measured (benchmarks/simulator/measure_guests.py balloon): of 1 GiB that was taken from guests of 2 GiB that had used and freed 1648,
    1024, 512 and 0 MiB, the host got back 1023, 988, 484 and 16 MiB.
    """
    touched_free = max(0.0, guest.touched - (guest.kernel + guest.anon + guest.cache))
    guest.size -= taken
    guest.touched = min(guest.touched - min(touched_free, taken), guest.size)
