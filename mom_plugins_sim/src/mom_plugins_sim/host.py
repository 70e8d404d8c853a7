"""The simulated host's own memory: what guests and programs leave of it, its swap, and how long all tasks wait. Sizes in KiB."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mom_plugins_sim.workload import HostLoads

MIB = 1024

SWAP_OUT_RATE = 300 * MIB
"""KiB/s that the host writes to its swap: an SSD, in clusters."""

SWAP_IN_RATE = 60 * MIB
"""KiB/s that come back: single pages, as they are touched."""

HOT_SHARE = 0.3
"""Ratio of swapped memory that is wanted back: kernels choose old pages first, but a guest's old pages are not all cold."""

WINDOWS = (10, 60, 300)
"""Seconds over which the kernel averages pressure."""


@dataclass(slots=True)
class HostMemory:
    """The host at one moment; `step` moves it on.

    `base` is its own system, `reserve` what its kernel keeps, `cache` the page cache that it would like to have; `other` is what `load`
    holds. `guests` is what guests have touched, less what is merged. `stall` is the ratio of time in which any task waits for memory: for
    pages to go out, a fifth of the time for pages that come back into room, most of it for those that have none, and all of it when not
    even swap is left.
    """

    total: float
    swap_total: float
    base: float
    reserve: float
    cache: float
    load: HostLoads
    other: float = 0.0
    guests: float = 0.0
    swapped: float = 0.0
    swap_in: float = 0.0
    swap_out: float = 0.0
    stall: float = 0.0
    some: dict[int, float] = field(default_factory=lambda: dict.fromkeys(WINDOWS, 0.0))
    some_total_us: float = 0.0

    @property
    def available(self) -> float:
        """What programs can have without swapping (MemAvailable)."""
        return max(0.0, self.total - self.reserve - self.base - self.other - self.guests + self.swapped)

    @property
    def unused(self) -> float:
        """What holds nothing (MemFree): the page cache takes up to its wish of what is available, but never the kernel's reserve."""
        return self.reserve + max(0.0, self.available - self.cache)

    def step(self, guests: float, time: float, dt: float) -> None:
        """Move on to `time + dt`, with so much touched by guests."""
        self.guests = guests
        self.other = self.load.wanted(time)
        short = self.base + self.other + guests + self.reserve - self.total - self.swapped
        out = back = thrashed = 0.0
        if short > 0:
            out = min(short, SWAP_OUT_RATE * dt, self.swap_total - self.swapped)
        if self.swapped > 0:
            wanted = min(self.swapped * HOT_SHARE, SWAP_IN_RATE * dt)
            back = min(wanted, max(0.0, -short))
            thrashed = wanted - back  # touched, but there is no room: what comes in pushes as much out
        self.swapped += out - back
        self.swap_in += back + thrashed
        self.swap_out += out + thrashed
        stall = (out + thrashed) / (SWAP_OUT_RATE * dt) + (back + 4 * thrashed) / (SWAP_IN_RATE * dt) / 5
        self._wait(1.0 if short > out + 1 else min(1.0, stall), dt)

    def _wait(self, stall: float, dt: float) -> None:
        """Account for that ratio of time in which any task waited, as the kernel does (kernel/sched/psi.c)."""
        self.stall = stall
        self.some_total_us += stall * dt * 1e6
        for window in WINDOWS:
            kept = math.exp(-dt / window)
            self.some[window] = self.some[window] * kept + 100 * stall * (1 - kept)
