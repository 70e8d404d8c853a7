"""The host's swap: what a page in it costs, and what of each guest is there. Sizes in KiB.

The kernel takes first what was used least lately: memory that a guest's own kernel has free, but that the host has backed; then what
programs have written and hardly touch; what they work with at last, and a little of it by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_plugins_sim.guest import MIB, PAGE, SimulatedGuestMemory

MISTAKEN_SHARE: Final = 0.05
"""Of what is taken, what programs work with though colder memory is there: a page is known to be in use only when the kernel comes by
again. Assumed."""

IDLE_SHARE: Final = 0.5
"""Of what a guest's kernel and its process hold for themselves, what is hardly touched once the guest is up: code and tables of its
boot. Of twelve guests that used all that they held, 90 MiB each stayed in swap while they did 98 % of their work (benchmarks/squeeze, mix
`hot`); these kernels and processes hold 150 to 180."""


@dataclass(frozen=True, slots=True)
class SwapDevice:
    """A device for swap. Rates in KiB/s of what guests have, whatever it takes on the device.

    A page that comes back takes `fault_seconds`, and `thrash` times as long when another has to go for it. `ratio` is what a KiB in it
    takes of the host's own memory.
    """

    size: float
    out_rate: float
    in_rate: float
    fault_seconds: float
    thrash: float
    ratio: float = 0.0


def disk(size: float) -> SwapDevice:
    """An SSD: written in clusters, read by single pages as they are touched."""
    return SwapDevice(size, 300.0 * MIB, 60.0 * MIB, 100e-6, 4.0)


def compressed(size: float) -> SwapDevice:
    """zram. 512 MiB were moved to it in 0.6 s by one CPU; a page comes back in the time of a fault and of its decompression."""
    return SwapDevice(size, 850.0 * MIB, 400.0 * MIB, 12e-6, 1.5, ratio=0.2)


class Held(NamedTuple):
    """Memory that the host has backed of a guest and its process at one moment, by how it is used: `free` is what its own kernel has
    free."""

    free: float
    cold: float
    hot: float


def held_by(memory: SimulatedGuestMemory, time: float) -> Held:
    """Of that guest; what it has in its own swap is what it touches least, too."""
    used = min(memory.touched, memory.kernel + memory.anon + memory.cache)
    cold = max(0.0, min(memory.workload.cold_at(time) - memory.swapped, memory.anon)) + _idle(memory)
    return Held(memory.touched - used, cold, used + memory.beside - cold)


def _idle(memory: SimulatedGuestMemory) -> float:
    """Memory that its kernel and its process hold for themselves, and hardly touch."""
    return IDLE_SHARE * (memory.kernel + memory.beside)


@dataclass(slots=True)
class SwappedGuest:
    """The part of one guest that is in the host's swap. `faults` counts pages that came back since the start, `due` is what is to come back
    in this step."""

    free: float = 0.0
    cold: float = 0.0
    hot: float = 0.0
    due: float = 0.0
    faults: float = 0.0

    @property
    def levels(self) -> Held:
        """The same by how it is used."""
        return Held(self.free, self.cold, self.hot)

    @property
    def total(self) -> float:
        """All of it."""
        return self.free + self.cold + self.hot

    def follow(self, before: Held, now: Held, memory: SimulatedGuestMemory, dt: float) -> None:
        """Take in what the guest has done in a step: what it gave back is gone, and what it used is due."""
        given = before.free + before.cold + before.hot - (now.free + now.cold + now.hot)
        if given > 0 and before.free > 0:  # the balloon gives whole pages away, wherever they are
            self.free *= 1 - min(1.0, given / before.free)
        grown = min(now.cold + now.hot - before.cold - before.hot, before.free)
        due = 0.0
        if grown > 0:  # its kernel hands out pages that it has free, and does not know where they are
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
            due += min(workload.cold_rate * dt * self.cold / now.cold, max(0.0, self.cold - idle))
        self.due = due

    def bring(self, kib: float) -> float:
        """Take so much out of swap, what is worked with first; how much it was."""
        hot = min(kib, self.hot)
        cold = min(kib - hot, self.cold)
        self.hot -= hot
        self.cold -= cold
        return hot + cold

    def wait(self, back: float, thrashed: float, device: SwapDevice, queue: float, dt: float) -> float:
        """Seconds of work that are lost in a step while so much comes back: a program goes on when its page is there.

        :param thrashed: of it, what came back although there was no room
        :param queue: how many times more is wanted than the device gives
        """
        pages = (back + thrashed) / PAGE
        self.faults += pages
        waits = (back + device.thrash * thrashed) / PAGE * device.fault_seconds * queue
        return dt * waits / (dt + waits)


def take(guests: Sequence[tuple[Held, SwappedGuest]], kib: float) -> float:
    """Move so much of these guests to the swap, the coldest first, and of each as much as it has of that; how much there was to take."""
    resident = [tuple(max(0.0, has - gone) for has, gone in zip(held, swapped.levels, strict=True)) for held, swapped in guests]
    free, cold, hot = (sum(one[level] for one in resident) for level in range(3))
    mistaken = min(MISTAKEN_SHARE * kib, hot)
    from_free = min(kib - mistaken, free)
    from_cold = min(kib - mistaken - from_free, cold)
    from_hot = min(kib - from_free - from_cold, hot)
    shares = [taken / there if there else 0.0 for taken, there in ((from_free, free), (from_cold, cold), (from_hot, hot))]
    for (_, swapped), mine in zip(guests, resident, strict=True):
        swapped.free += shares[0] * mine[0]
        swapped.cold += shares[1] * mine[1]
        swapped.hot += shares[2] * mine[2]
    return from_free + from_cold + from_hot
