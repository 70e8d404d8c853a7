"""One guest's memory: what its kernel does when programs want more, when the balloon moves, and when there is too little. Sizes in KiB."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mom_plugins_sim.workload import Workload

MIB = 1024

BALLOON_RATE = 0.86 * 1024 * MIB
"""KiB/s that a virtio balloon moves: measured on QEMU with KVM."""

GROWTH_RATE = 320 * MIB
"""KiB/s at which a program can fill fresh memory: the measured rate of one that writes every page."""

SWAP_RATE = 200 * MIB
"""KiB/s to and from a guest's swap: a virtual disk on an SSD, four-kilobyte pages."""

PAGE = 4

STARVING_SECONDS = 5.0
"""How long a program that wants more than there is waits before it is killed: as long as the kernel finds something to reclaim, be it the
programs' own text, it only stalls them. Guests of 1 GiB whose growth was measured to stall for 4.8 s lived."""

RESTART_SECONDS = 30.0
"""How long it takes until what the guest's kernel killed runs again: a supervisor restarts it, it starts, it reads its data."""

FAULT_SECONDS = 100e-6
"""What a program waits for a page that comes from a disk: a virtual disk on an SSD."""

SUPERVISION = 48 * MIB
"""What the QEMU process holds beside the guest's memory."""


@dataclass(slots=True)
class GuestMemory:
    """A guest's memory at one moment; `step` moves it on.

    `size` is what the balloon leaves, `target` what was asked for. `kernel` is never given back. `anon` is resident anonymous memory,
    `swapped` is in the guest's swap of `swap_total`, `cache` is page cache. `touched` is what the host has backed with memory. `low` is
    the kernel's own watermark, below which it reclaims. A `stuck` balloon does not move. The counters count since the start: `killed` how
    often the kernel had to kill the programs, which run again at `runs_again`; `lost_seconds` the work that they could
    not do; `starved` for how long they have waited for memory that does not come.
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
    lost_kib_seconds: float = 0.0
    lost_seconds: float = 0.0
    killed: int = 0
    runs_again: float = 0.0
    starved: float = 0.0
    stuck: bool = False

    @property
    def free(self) -> float:
        """Memory that holds nothing."""
        return self.size - self.kernel - self.anon - self.cache

    @property
    def usable(self) -> float:
        """What programs can have without swapping, as Linux estimates it: half the cache, or as much as the watermark, stays."""
        cache = self.cache
        return max(0.0, self.size - self.kernel - self.anon - self.low - min(cache / 2, self.low))

    @property
    def need(self) -> float:
        """The size below which the programs do not fit: only a simulation knows."""
        return self.kernel + self.low + self.wanted


def kernel_of(maximum: float) -> float:
    """What the kernel of a guest of so much memory keeps for itself.

    The memory map takes 64 bytes of every page (1.6 %); kernel, slab and page tables of a small server about 60 MiB.
    """
    return 0.016 * maximum + min(60 * MIB, 0.1 * maximum)


def low_of(maximum: float) -> float:
    """Its low watermark: min_free_kbytes is 4 * sqrt(16 * KiB) (mm/page_alloc.c), and this a quarter more."""
    return 1.25 * 4 * math.sqrt(16 * maximum) / 4


def new_guest(workload: Workload, maximum: float, swap_total: float, cached: float, size: float | None = None) -> GuestMemory:
    """A guest that has been up for a while, and has read so much (ratio) of its files.

    :param size: what a balloon leaves it already, in KiB; None: it is empty
    """
    kernel, low = kernel_of(maximum), low_of(maximum)
    has = maximum if size is None else min(size, maximum)
    anon = max(0.0, min(workload.demand.base, has - kernel - low))
    guest = GuestMemory(workload, maximum, kernel, low, swap_total, size=has, target=has, anon=anon, wanted=anon)
    guest.cache = max(0.0, min(cached * workload.files, guest.free - low))
    guest.touched = min(has, kernel + anon + guest.cache)
    return guest


def step(guest: GuestMemory, time: float, dt: float) -> None:
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
        guest.anon *= kept
        guest.swapped *= kept
        growth = 0.0
    elif growth > GROWTH_RATE * dt:
        growth = GROWTH_RATE * dt
    move = 0.0 if guest.stuck else guest.target - guest.size
    taken = 0.0
    if move > 0:
        guest.size += min(move, BALLOON_RATE * dt)
    elif move < 0:
        taken = min(-move, BALLOON_RATE * dt)
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
    if guest.squeezed or guest.major_faults > major_faults:
        waited = min(dt, (guest.major_faults - major_faults) * FAULT_SECONDS)
        guest.lost_seconds += min(dt, waited + dt * guest.squeezed / max(wanted, 1.0))


def _make_room(guest: GuestMemory, growth: float, taken: float, time: float, dt: float) -> None:
    """Fit in what programs want, what they want back from swap, and what the balloon takes: cache goes first, then swap is used, then
    the balloon gets less, and at last the kernel kills the programs."""
    back = min(guest.swapped, SWAP_RATE * dt)
    over = guest.anon + growth + back + guest.cache + taken - (guest.size - guest.kernel - guest.low)
    if over > 0:
        dropped = min(over, guest.cache)
        guest.cache -= dropped
        over -= dropped
    if over > 0 and back:
        # No room for what is wanted back from swap. As it is touched all the same, as much goes out as comes in.
        less = min(over, back)
        back -= less
        over -= less
        thrashed = less / 2
        guest.swap_in += thrashed
        guest.swap_out += thrashed
        guest.major_faults += thrashed / PAGE
    if over > 0:
        out = min(over, SWAP_RATE * dt, guest.swap_total - guest.swapped, guest.anon)
        guest.anon -= out
        guest.swapped += out
        guest.swap_out += out
        over -= out
    if over > 0:
        less = min(over, taken)
        taken -= less
        over -= less
    if over > 0 and growth > 0:
        guest.starved += dt
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
    guest.squeezed = max(0.0, guest.wanted - guest.anon) if over > 0 or guest.swapped else 0.0
    guest.lost_kib_seconds += guest.squeezed * dt
    if taken > 0:
        _give_to_host(guest, taken)


def _kill(guest: GuestMemory, time: float) -> None:
    """There is nothing left to reclaim, and a program wants more: Linux kills the largest, here all that runs (mm/oom_kill.c)."""
    guest.killed += 1
    guest.runs_again = time + RESTART_SECONDS
    guest.anon = guest.swapped = guest.squeezed = guest.starved = 0.0


def _give_to_host(guest: GuestMemory, taken: float) -> None:
    """The balloon takes free pages as they come: of these, the host gets back the share that was ever touched."""
    used = guest.kernel + guest.anon + guest.cache
    free = guest.size - used
    touched_free = max(0.0, guest.touched - used)
    guest.size -= taken
    if free > 0:
        guest.touched -= touched_free * min(1.0, taken / free)
    guest.touched = min(guest.touched, guest.size)
