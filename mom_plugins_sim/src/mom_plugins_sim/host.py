"""Memory of the simulated host: available memory, swap and pressure. Sizes in KiB."""

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
