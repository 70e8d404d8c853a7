"""How much memory the host is to have available, and how it is off: from its size, its goal, and how fast its guests grow."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from mom_core import Host, Value
from mom_plugins_balloon.names import STOPPED_BELOW

GIB = 1 << 20
"""KiB."""

SCALE = ((4 * GIB, 0.06), (8 * GIB, 0.04), (16 * GIB, 0.02), (float("inf"), 0.01))
"""The least that a host keeps: 6 % of its first 4 GiB, 4 % of the next 8, 2 % of the next 16, 1 % of the rest, as VMware's ESX does
(`Mem.MinFreePct`). That is 0.4 GiB of 8, 0.8 GiB of 24, and 42 GiB of 4 TiB: what a kernel and its programs want from one moment to the
next grows with the host, but not as fast."""

HARD_SHARE = 0.5
LOW_SHARE = 0.25
"""Of the least. Below the first guests give what they may miss, and get back no headroom for bursts; below the second no guest grows beyond
what it is promised."""

GAP = 1.05
"""A state is left when the host has so much more than what it begins at: what is available goes up and down by tens of MiB all the time."""


class StateGoal(StrEnum):
    """What matters most."""

    DENSITY = "density"  #: more guests; the host keeps what guests were seen to take at once
    BALANCED = "balanced"  #: both
    SAFE = "safe"  #: what guests may take is always there


GROWTH_FACTOR = {StateGoal.DENSITY: 1.0, StateGoal.BALANCED: 1.5, StateGoal.SAFE: 3.0}
"""Ratios. How often the host has what guests may take from it, together, in the time that it takes mom to get it back."""

UNSEEN_SHARE = 0.03
UNSEEN_MOST_KIB = 10 * GIB
"""Ratio of the host, and KiB: what guests may take at once even where they were not seen to take so much yet. A program that reads its data
at 150 MiB/s takes 750 MiB in a cycle of 5 s, which is 2.3 % of 32 GiB. How much may come at once does not depend on the host's size for
ever: 10 GiB are thirty guests that fill fresh memory at 320 MiB/s for a second."""

ROOM_SHARE = {StateGoal.DENSITY: 0.0, StateGoal.BALANCED: 0.1, StateGoal.SAFE: 1.0}
"""Ratios. How much of what guests could take, as they have the room for it, the host has at least."""


class MemoryState(StrEnum):
    """How the host is off, by what is available."""

    HIGH = "high"  #: it has what it should have: nothing is taken
    SOFT = "soft"  #: guests give what they do not use
    HARD = "hard"  #: they give of their margins, too
    LOW = "low"  #: no guest grows beyond what it is promised


class Reserve(NamedTuple):
    """What the host is to have available, and below what it is in which state. KiB."""

    high: float
    hard: float
    low: float

    def state(self, available: float, before: MemoryState) -> MemoryState:
        """The state with so much available, after that state."""
        for state, ends in ((MemoryState.LOW, self.low), (MemoryState.HARD, self.hard), (MemoryState.SOFT, self.high)):
            if available < (GAP * ends if list(MemoryState).index(before) >= list(MemoryState).index(state) else ends):
                return state
        return MemoryState.HIGH


def least_kib(total: float) -> float:
    """The least that a host of so much memory keeps."""
    least, left = 0.0, total
    for part, share in SCALE:
        least += share * min(left, part)
        left = max(0.0, left - part)
    return least


def hard_kib(total: float) -> float:
    """What is left when a host of so much memory is below its hard watermark."""
    return HARD_SHARE * least_kib(total)


class HostWanted(NamedTuple):
    """What the operator wants of the host: what matters most, and the high and the hard watermark, in KiB; None: worked out."""

    goal: StateGoal = StateGoal.BALANCED
    high: float | None = None
    hard: float | None = None

    def reserve(self, total: float, growth: float = 0.0, room: float = 0.0, stopped_below: float = 0.0) -> Reserve:
        """What a host of so much memory is to have. KiB.

        :param growth: what guests were seen to take together within the time of a reaction
        :param room: what they could take, as they have the room for it
        :param stopped_below: with less available, something else stops guests: what is worked out counts from there on, and what the
            operator wants is raised above it where it is not
        """
        least = least_kib(total)
        may_grow = max(growth, min(UNSEEN_SHARE * total, UNSEEN_MOST_KIB))
        high = least + max(GROWTH_FACTOR[self.goal] * may_grow, ROOM_SHARE[self.goal] * room)
        hard, low = HARD_SHARE * least, LOW_SHARE * least
        high = high + stopped_below if self.high is None else max(self.high, stopped_below + hard if stopped_below else 0.0)
        hard = hard + stopped_below if self.hard is None else max(self.hard, stopped_below + low if stopped_below else 0.0)
        return Reserve(high, min(high, hard), min(high, hard, low + stopped_below))


class HostWatermarks:
    """How the host is off from cycle to cycle.

    :param wanted: what the operator wants of it
    """

    def __init__(self, wanted: HostWanted) -> None:
        self.wanted = wanted
        self.reserve: Reserve | None = None
        self.state = MemoryState.HIGH

    def see(self, host: Host, growth: float, room: float) -> None:
        """Take in what there is, and what guests were seen to take; as `HostWanted.reserve`."""
        total, available = host.number("mem_available"), host.number("mem_really_available")
        if total is not None and available is not None:
            self.reserve = self.wanted.reserve(total, growth, room, host.number(STOPPED_BELOW) or 0.0)
            self.state = self.reserve.state(available, self.state)

    def fields(self, growth: float) -> Mapping[str, Value]:
        """How the host is off, as it was seen last, with the growth of its guests that is known by now."""
        if self.reserve is None:
            return {}
        watermarks = {f"mem_watermark_{name}": int(kib) for name, kib in self.reserve._asdict().items()}
        return {**watermarks, "host_memory_state": str(self.state), "mem_growth_peak": int(growth)}
