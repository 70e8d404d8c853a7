"""Watermarks of the host's available memory, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from mom_core import Host, Value
from mom_plugins_balloon.names import STOPPED_BELOW

GIB = 1 << 20

SCALE = ((4 * GIB, 0.06), (8 * GIB, 0.04), (16 * GIB, 0.02), (float("inf"), 0.01))
"""Least memory that a host keeps: ratios of its first 4 GiB, the next 8, the next 16 and the rest. The ratios are those
of VMware ESX (`Mem.MinFreePct`). Of 24 GiB, a host keeps 0.8."""

HARD_SHARE = 0.5
LOW_SHARE = 0.25
"""Hard and low watermark, as ratios of the least memory."""

GAP = 1.05
"""A state ends when available memory exceeds this multiple of its watermark: available memory varies by tens of MiB."""


class StateGoal(StrEnum):
    """Goal of the operator."""

    DENSITY = "density"  #: more guests; the host keeps the largest growth seen so far
    BALANCED = "balanced"  #: between `density` and `safe`
    SAFE = "safe"  #: the host keeps all memory that guests could take
    TRUTHFUL = "truthful"  #: like `balanced`, but guests keep their full sizes while the host is above its hard watermark


GROWTH_SHARE = {StateGoal.DENSITY: 1.0, StateGoal.BALANCED: 1.5, StateGoal.SAFE: 3.0, StateGoal.TRUTHFUL: 1.5}
"""Memory to keep available, as a multiple of the guests' growth in the time that mom needs to reclaim memory."""

UNSEEN_SHARE = 0.03
UNSEEN_MOST_KIB = 10 * GIB
"""mom expects a growth of at least `UNSEEN_SHARE` of the host's memory or `UNSEEN_MOST_KIB`, whichever is less. Thirty guests that fill
320 MiB/s grow by 10 GiB in a second."""

ROOM_SHARE = {StateGoal.DENSITY: 0.0, StateGoal.BALANCED: 0.1, StateGoal.SAFE: 1.0, StateGoal.TRUTHFUL: 0.1}
"""Least memory that the host keeps available, as ratios of the memory that guests could still take."""


class MemoryState(StrEnum):
    """State of the host from its available memory."""

    HIGH = "high"  #: enough; guests keep their memory
    SOFT = "soft"  #: mom takes empty memory and page cache, then margins
    HARD = "hard"  #: mom also takes headroom for bursts
    LOW = "low"  #: no guest grows beyond its guarantee


class Reserve(NamedTuple):
    """Watermarks of available memory, in KiB."""

    high: float
    hard: float
    low: float

    def state(self, available: float, before: MemoryState) -> MemoryState:
        """Return the state that follows the state `before`."""
        for state, ends in ((MemoryState.LOW, self.low), (MemoryState.HARD, self.hard), (MemoryState.SOFT, self.high)):
            if available < (GAP * ends if list(MemoryState).index(before) >= list(MemoryState).index(state) else ends):
                return state
        return MemoryState.HIGH


def host_minimum_kib(total: float) -> float:
    """Return the least memory that must stay available on a host with `total` memory."""
    least, left = 0.0, total
    for part, share in SCALE:
        least += share * min(left, part)
        left = max(0.0, left - part)
    return least


def hard_kib(total: float) -> float:
    """Return the hard watermark of a host with `total` memory."""
    return HARD_SHARE * host_minimum_kib(total)


class HostWanted(NamedTuple):
    """Operator's goal, and the high and hard watermarks in KiB; mom computes a watermark that is None."""

    goal: StateGoal = StateGoal.BALANCED
    high: float | None = None
    hard: float | None = None

    def reserve(self, total: float, growth: float = 0.0, room: float = 0.0, stopped_below: float = 0.0) -> Reserve:
        """Return the host's watermarks in KiB.

        :param growth: largest recent growth of all guests within the reaction time
        :param room: memory that guests could still take
        :param stopped_below: available memory below which a platform evicts guests; the watermarks are above this amount
        """
        least = host_minimum_kib(total)
        may_grow = max(growth, min(UNSEEN_SHARE * total, UNSEEN_MOST_KIB))
        high = least + max(GROWTH_SHARE[self.goal] * may_grow, ROOM_SHARE[self.goal] * room)
        hard, low = HARD_SHARE * least, LOW_SHARE * least
        high = high + stopped_below if self.high is None else max(self.high, stopped_below + hard if stopped_below else 0.0)
        hard = hard + stopped_below if self.hard is None else max(self.hard, stopped_below + low if stopped_below else 0.0)
        return Reserve(high, min(high, hard), min(high, hard, low + stopped_below))


class HostWatermarks:
    """Watermarks and state of the host from cycle to cycle."""

    def __init__(self, wanted: HostWanted) -> None:
        self.wanted = wanted
        self.reserve: Reserve | None = None
        self.state = MemoryState.HIGH

    def see(self, host: Host, growth: float, room: float) -> None:
        """Record a cycle. `HostWanted.reserve` explains the parameters."""
        total, available = host.number("mem_available"), host.number("mem_really_available")
        if total is not None and available is not None:
            self.reserve = self.wanted.reserve(total, growth, room, host.number(STOPPED_BELOW) or 0.0)
            self.state = self.reserve.state(available, self.state)

    def fields(self, growth: float) -> Mapping[str, Value]:
        """Return the host's fields of the last cycle, with the present growth."""
        if self.reserve is None:
            return {}
        watermarks = {f"mem_watermark_{name}": int(kib) for name, kib in self.reserve._asdict().items()}
        return {**watermarks, "host_memory_state": str(self.state), "mem_growth_peak": int(growth)}
