"""The simulated host's own memory: what guests and programs leave of it, its swap, and how long all tasks wait. Sizes in KiB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mom_plugins_sim.host_swap import SwapDevice
from mom_plugins_sim.workload import HostLoad, Trace

WINDOWS = (10, 60, 300)
"""Seconds over which the kernel averages pressure."""


class SwapStep(NamedTuple):
    """A step's pages that went out, that came back into room and without any (KiB), how many times more was wanted than the swap gives,
    and the ratio of time in which whoever wants memory waits for pages to go out."""

    out: float
    back: float
    thrashed: float
    queue: float
    blocked: float


@dataclass(slots=True)
class SimulatedHostMemory:
    """The host at one moment; `step` moves it on.

    `base` is its own system, `reserve` what its kernel keeps, `cache` the page cache that it would like to have; `other` is what `loads`
    hold, and `others_swapped` what of `swapped` is of programs rather than in guests. `guests` is what guests have touched, less what is
    merged. The kernel begins to swap when less than `swaps_below` is available. `stall` is the ratio of time in which any task waits for
    memory: for pages to go out, a fifth of the time for pages that come back into room, most of it for those that have none, and all of it
    when not even swap is left.
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
        """Memory that programs can have without swapping (MemAvailable)."""
        return max(0.0, -self.short)

    @property
    def short(self) -> float:
        """How much more is held than there is; less than nothing where there is room. What is in swap may take some of the host, too."""
        held = self.base + self.other + self.guests + self.reserve
        return held - self.swapped * (1 - self.swap.ratio) - self.total

    @property
    def unused(self) -> float:
        """Memory that holds nothing (MemFree): the page cache takes up to its wish of what is available, but never the kernel's reserve."""
        return self.reserve + max(0.0, self.available - self.cache)

    @property
    def cached(self) -> float:
        """The page cache."""
        return max(0.0, self.reserve + self.available - self.unused)

    @property
    def anonymous(self) -> float:
        """Memory of programs that is not in swap."""
        return self.base + self.other + self.guests - self.swapped

    def step(self, guests: float, time: float, dt: float, due: float = 0.0) -> SwapStep:
        """Move on to `time + dt`, with so much touched by guests, who want so much back from swap."""
        swap = self.swap
        self.guests = guests
        self.other = sum(load.wanted(time) for load in self.loads)
        short = self.short
        gain = 1 - swap.ratio
        needed = out = back = 0.0
        if short + self.swaps_below > 0:
            needed = max(0.0, short / gain)
            out = min((short + self.swaps_below) / gain, swap.out_rate * dt, swap.size - self.swapped)
        served = min(due, swap.in_rate * dt)
        if served > 0:
            back = min(served, max(0.0, -short - self.swaps_below) / gain)
        thrashed = served - back  # touched, but there is no room: what comes in pushes as much out
        self.swapped += out - back
        self.swap_in += served
        self.swap_out += out + thrashed
        blocked = 1.0 if needed > out + 1 else out / (swap.out_rate * dt)
        stall = (out + thrashed) / (swap.out_rate * dt) + (back + swap.thrash * thrashed) / (swap.in_rate * dt) / 5
        self._wait(1.0 if needed > out + 1 else min(1.0, stall), dt)
        return SwapStep(out, back, thrashed, max(1.0, due / (swap.in_rate * dt)), blocked)

    def _wait(self, stall: float, dt: float) -> None:
        """Account for that ratio of time in which any task waited, as the kernel does (kernel/sched/psi.c)."""
        self.stall = stall
        self.some_total_us += stall * dt * 1e6
        for window in WINDOWS:
            kept = math.exp(-dt / window)
            self.some[window] = self.some[window] * kept + 100 * stall * (1 - kept)
