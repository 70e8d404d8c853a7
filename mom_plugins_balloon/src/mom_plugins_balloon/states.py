"""Watermarks of the host's available memory, and its state: from its size, its goal, and how fast its guests grow."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from mom_core import Host, Value
from mom_plugins_balloon.names import STOPPED_BELOW

GIB = 1 << 20
"""KiB."""

SCALE = ((4 * GIB, 0.06), (8 * GIB, 0.04), (16 * GIB, 0.02), (float("inf"), 0.01))
"""Least memory that a host keeps: 6 % of its first 4 GiB, 4 % of the next 8, 2 % of the next 16, 1 % of the remainder, as VMware's ESX does
(`Mem.MinFreePct`). That is 0.4 GiB of 8, 0.8 GiB of 24, and 42 GiB of 4 TiB. The short-term demand of a kernel and its programs grows with
the host, but not as fast."""

HARD_SHARE = 0.5
LOW_SHARE = 0.25
"""Ratios of that least: the hard and the low watermark. Below the first, guests give margins and get back no headroom for bursts. Below the
second, no guest grows beyond its guarantee."""

GAP = 1.05
"""Ratio. A state ends when the host has so much more than the watermark where it begins: available memory varies by tens of MiB."""


class StateGoal(StrEnum):
    """Goal of the operator."""

    DENSITY = "density"  #: more guests; the host keeps what guests were seen to take at once
    BALANCED = "balanced"  #: both
    SAFE = "safe"  #: what guests may take is always there


GROWTH_FACTOR = {StateGoal.DENSITY: 1.0, StateGoal.BALANCED: 1.5, StateGoal.SAFE: 3.0}
"""Ratios. The host keeps so many times the memory that all guests may take until mom has reclaimed it."""

UNSEEN_SHARE = 0.03
UNSEEN_MOST_KIB = 10 * GIB
"""Ratio of the host, and KiB: memory that guests may take at once, though they were not seen to take so much yet. A program that reads its
data at 150 MiB/s takes 750 MiB in a cycle of 5 s, 2.3 % of 32 GiB. 10 GiB are thirty guests that fill memory at 320 MiB/s for a second."""

ROOM_SHARE = {StateGoal.DENSITY: 0.0, StateGoal.BALANCED: 0.1, StateGoal.SAFE: 1.0}
"""Ratios. The host keeps so much of the memory that guests' sizes let them take at least."""


class MemoryState(StrEnum):
    """State of the host by its available memory."""

    HIGH = "high"  #: it has enough: nothing is taken
    SOFT = "soft"  #: guests give memory that they do not use
    HARD = "hard"  #: guests give margins, too
    LOW = "low"  #: no guest grows beyond its guarantee


class Reserve(NamedTuple):
    """Watermarks of available memory, in KiB."""

    high: float
    hard: float
    low: float

    def state(self, available: float, before: MemoryState) -> MemoryState:
        """Return the state with so much available memory, after the state before."""
        for state, ends in ((MemoryState.LOW, self.low), (MemoryState.HARD, self.hard), (MemoryState.SOFT, self.high)):
            if available < (GAP * ends if list(MemoryState).index(before) >= list(MemoryState).index(state) else ends):
                return state
        return MemoryState.HIGH


def least_kib(total: float) -> float:
    """Return the least memory that a host of this size keeps."""
    least, left = 0.0, total
    for part, share in SCALE:
        least += share * min(left, part)
        left = max(0.0, left - part)
    return least


def hard_kib(total: float) -> float:
    """Return the hard watermark of a host of this size."""
    return HARD_SHARE * least_kib(total)


class HostWanted(NamedTuple):
    """Operator's goal, and high and hard watermark in KiB; None: computed."""

    goal: StateGoal = StateGoal.BALANCED
    high: float | None = None
    hard: float | None = None

    def reserve(self, total: float, growth: float = 0.0, room: float = 0.0, stopped_below: float = 0.0) -> Reserve:
        """Return the watermarks of a host of this size. KiB.

        :param growth: memory that all guests took within the time of a reaction lately
        :param room: memory that guests' sizes let them take
        :param stopped_below: with less available, a platform stops guests. Computed watermarks begin there; the operator's are raised above
        """
        least = least_kib(total)
        may_grow = max(growth, min(UNSEEN_SHARE * total, UNSEEN_MOST_KIB))
        high = least + max(GROWTH_FACTOR[self.goal] * may_grow, ROOM_SHARE[self.goal] * room)
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
        """Take in the host of one cycle; for the figures see `HostWanted.reserve`."""
        total, available = host.number("mem_available"), host.number("mem_really_available")
        if total is not None and available is not None:
            self.reserve = self.wanted.reserve(total, growth, room, host.number(STOPPED_BELOW) or 0.0)
            self.state = self.reserve.state(available, self.state)

    def fields(self, growth: float) -> Mapping[str, Value]:
        """Return the host's fields by the last cycle, with the present growth of its guests."""
        if self.reserve is None:
            return {}
        watermarks = {f"mem_watermark_{name}": int(kib) for name, kib in self.reserve._asdict().items()}
        return {**watermarks, "host_memory_state": str(self.state), "mem_growth_peak": int(growth)}
