"""The host's swap: what swapping a page costs, and how much of each guest is in swap. Sizes in KiB.

The kernel swaps out a guest's free backed memory first, then cold memory, then hot memory. By mistake, a little hot memory goes early.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_plugins_sim.guest import MIB, PAGE, SimulatedGuestMemory
from mom_plugins_sim.workload import COLD_RATE

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
