"""Memory of the simulated host, and its swap: what swapping a page costs, and how much of each guest is in swap. Sizes in KiB.

The kernel swaps out a guest's free backed memory first, then cold memory, then hot memory. By mistake, a little hot memory goes early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mom_plugins_sim.guest import MIB, PAGE, SimulatedGuestMemory
from mom_plugins_sim.workload import COLD_RATE, HostLoad, Trace

MISTAKEN_SHARE: Final = 0.05
"""Assumed fraction of swapped-out memory that is hot although colder memory is resident."""

IDLE_SHARE: Final = 0.5
"""Fraction of the memory of a guest's kernel and process that is cold after boot.

Measured with twelve fully used guests (benchmarks/squeeze, mix `hot`).
"""


@dataclass(frozen=True, slots=True)
class SwapDevice:
    """Swap device. Rates are KiB/s of uncompressed memory.

    A swap-in takes `fault_seconds`, or `thrash` times as long if another page must be swapped out first. Each KiB in swap occupies `ratio`
    KiB of the host's memory.
    """

    size: float
    out_rate: float
    in_rate: float
    fault_seconds: float
    thrash: float
    ratio: float = 0.0


def disk(size: float) -> SwapDevice:
    """Return swap on an SSD, which is written in clusters and read page by page."""
    return SwapDevice(size, 300.0 * MIB, 60.0 * MIB, 100e-6, 4.0)


def compressed(size: float) -> SwapDevice:
    """Return swap on a zram device. Measured: one CPU compressed 512 MiB in 0.6 s."""
    return SwapDevice(size, 850.0 * MIB, 400.0 * MIB, 12e-6, 1.5, ratio=0.2)


class Held(NamedTuple):
    """Memory of a guest and its process, broken down by use."""

    free: float
    cold: float
    hot: float


def held_by(memory: SimulatedGuestMemory, time: float) -> Held:
    """Return a guest's memory on the host, broken down by use. Memory in the guest's own swap is not included."""
    used = min(memory.touched, memory.kernel + memory.anon + memory.cache)
    cold = max(0.0, min(memory.workload.cold_at(time) - memory.swapped, memory.anon)) + _idle(memory)
    return Held(memory.touched - used, cold, used + memory.traits.qemu_overhead - cold)


def _idle(memory: SimulatedGuestMemory) -> float:
    return IDLE_SHARE * (memory.kernel + memory.traits.qemu_overhead)


@dataclass(slots=True)
class SwappedGuest:
    """Memory of one guest in the host's swap, in KiB and broken down by use.

    :param due: memory to swap in during this step
    :param faults: pages swapped in since the start
    """

    free: float = 0.0
    cold: float = 0.0
    hot: float = 0.0
    due: float = 0.0
    faults: float = 0.0

    @property
    def levels(self) -> Held:
        """Swapped memory, broken down by use."""
        return Held(self.free, self.cold, self.hot)

    @property
    def total(self) -> float:
        """All swapped memory."""
        return self.free + self.cold + self.hot

    def follow(self, before: Held, now: Held, memory: SimulatedGuestMemory, dt: float) -> None:
        """Apply a step of the guest: memory that the guest returned leaves the swap, and memory that it uses must be swapped in (`due`)."""
        returned = before.free + before.cold + before.hot - (now.free + now.cold + now.hot)
        if returned > 0 and before.free > 0:  # the balloon returns pages in swap and in memory alike
            self.free *= 1 - min(1.0, returned / before.free)
        grown = min(now.cold + now.hot - before.cold - before.hot, before.free)
        due = 0.0
        if grown > 0:  # the guest's kernel allocates free pages and cannot see that some are in swap
            due = self.free * grown / before.free
            self.free -= due
            self.hot += due
        if now.hot < before.hot and self.hot:
            freed = self.hot * (1 - now.hot / before.hot)
            self.hot -= freed
            self.free += freed
        if self.cold > now.cold:
            self.hot += self.cold - now.cold
            self.cold = now.cold
        workload = memory.workload
        if self.hot and now.hot > 0:
            due += workload.touch_rate * dt * self.hot / now.hot
        due = min(due, self.hot)
        idle = _idle(memory)
        if self.cold and now.cold > idle:
            due += min(COLD_RATE * dt * self.cold / now.cold, max(0.0, self.cold - idle))
        self.due = due

    def swap_in(self, kib: float) -> float:
        """Swap in up to this many KiB, hot memory first; return the KiB swapped in."""
        hot = min(kib, self.hot)
        cold = min(kib - hot, self.cold)
        self.hot -= hot
        self.cold -= cold
        return hot + cold

    def wait(self, back: float, thrashed: float, device: SwapDevice, queue: float, dt: float) -> float:
        """Count the faults of a step, and return the seconds of work lost.

        :param back: KiB swapped in while the host had free memory
        :param thrashed: KiB swapped in after other pages were swapped out
        :param queue: demand for swap-in as a multiple of the device's rate
        """
        pages = (back + thrashed) / PAGE
        self.faults += pages
        waits = (back + device.thrash * thrashed) / PAGE * device.fault_seconds * queue
        return dt * waits / (dt + waits)


def swap_out(guests: Sequence[tuple[Held, SwappedGuest]], kib: float) -> float:
    """Swap out up to this many KiB, the coldest memory first, from guests in proportion to their resident memory. Return the KiB moved."""
    resident = [tuple(max(0.0, size - out) for size, out in zip(held, swapped.levels, strict=True)) for held, swapped in guests]
    free, cold, hot = (sum(levels[index] for levels in resident) for index in range(3))
    mistaken = min(MISTAKEN_SHARE * kib, hot)
    from_free = min(kib - mistaken, free)
    from_cold = min(kib - mistaken - from_free, cold)
    from_hot = min(kib - from_free - from_cold, hot)
    shares = [out / total if total else 0.0 for out, total in ((from_free, free), (from_cold, cold), (from_hot, hot))]
    for (_, swapped), levels in zip(guests, resident, strict=True):
        swapped.free += shares[0] * levels[0]
        swapped.cold += shares[1] * levels[1]
        swapped.hot += shares[2] * levels[2]
    return from_free + from_cold + from_hot


WINDOWS = (10, 60, 300)
"""Seconds over which the kernel averages pressure."""


class SwapStep(NamedTuple):
    """Swap traffic of one step, in KiB.

    :param out: swapped out to make room
    :param back: swapped in while the host had free memory
    :param thrashed: swapped in after as much other memory was swapped out
    :param queue: demand for swap-in as a multiple of the device's rate
    :param blocked: fraction of the step in which allocations waited
    """

    out: float
    back: float
    thrashed: float
    queue: float
    blocked: float


@dataclass(slots=True)
class SimulatedHostMemory:
    """Memory of the host; `step` advances it.

    :param reserve: memory that the host's kernel keeps free
    :param cache: page cache that the host wants
    :param loads: programs outside the guests; `other` is their memory
    :param swaps_below: the kernel begins to swap when less memory is available
    :param guests: memory that guests have touched, less merged pages
    :param swapped: memory in swap; `others_swapped` is the part of programs outside the guests
    :param stall: fraction of time in which any task waits for memory. Tasks wait during swap-out, during a fifth of swap-in into free
        memory, and during most of swap-in without free memory. When swap is full, `stall` is 1.
    """

    total: float
    swap: SwapDevice
    base: float
    reserve: float
    cache: float
    loads: Sequence[HostLoad | Trace]
    swaps_below: float = 0.0
    other: float = 0.0
    guests: float = 0.0
    swapped: float = 0.0
    others_swapped: float = 0.0
    swap_in: float = 0.0
    swap_out: float = 0.0
    stall: float = 0.0
    some: dict[int, float] = field(default_factory=lambda: dict.fromkeys(WINDOWS, 0.0))
    some_total_us: float = 0.0

    @property
    def available(self) -> float:
        """Memory available without swapping (MemAvailable)."""
        return max(0.0, -self.short)

    @property
    def short(self) -> float:
        """Memory that does not fit, compressed swap included; negative if there is room."""
        held = self.base + self.other + self.guests + self.reserve
        return held - self.swapped * (1 - self.swap.ratio) - self.total

    @property
    def unused(self) -> float:
        """Free memory (MemFree), including the kernel's reserve."""
        return self.reserve + max(0.0, self.available - self.cache)

    @property
    def cached(self) -> float:
        """Page cache."""
        return max(0.0, self.reserve + self.available - self.unused)

    @property
    def anonymous(self) -> float:
        """Resident memory of programs and guests."""
        return self.base + self.other + self.guests - self.swapped

    def step(self, guests: float, time: float, dt: float, due: float = 0.0) -> SwapStep:
        """Advance to `time + dt`.

        :param guests: touched memory of guests, less merged pages
        :param due: demand for swap-in by guests, in KiB
        """
        swap = self.swap
        self.guests = guests
        self.other = sum(load.at(time) for load in self.loads)
        short = self.short
        gain = 1 - swap.ratio
        needed = out = back = 0.0
        if short + self.swaps_below > 0:
            needed = max(0.0, short / gain)
            out = min((short + self.swaps_below) / gain, swap.out_rate * dt, swap.size - self.swapped)
        served = min(due, swap.in_rate * dt)
        if served > 0:
            back = min(served, max(0.0, -short - self.swaps_below) / gain)
        thrashed = served - back  # touched without room: as many pages go out
        self.swapped += out - back
        self.swap_in += served
        self.swap_out += out + thrashed
        blocked = 1.0 if needed > out + 1 else out / (swap.out_rate * dt)
        stall = (out + thrashed) / (swap.out_rate * dt) + (back + swap.thrash * thrashed) / (swap.in_rate * dt) / 5
        self._account_stall(1.0 if needed > out + 1 else min(1.0, stall), dt)
        return SwapStep(out, back, thrashed, max(1.0, due / (swap.in_rate * dt)), blocked)

    def _account_stall(self, stall: float, dt: float) -> None:
        self.stall = stall
        self.some_total_us += stall * dt * 1e6
        for window in WINDOWS:
            kept = math.exp(-dt / window)
            self.some[window] = self.some[window] * kept + 100 * stall * (1 - kept)
