"""Records of sweeps: plan, CPU cost, outcome and history. Sizes are KiB."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from mom_core import Entity, format_kib
from mom_plugins_balloon.parameters import SLOW_BALLOON_KIB_PER_SECOND
from mom_plugins_balloon.sweep import constants


class SweepEnd(StrEnum):
    """Reason for the end of a sweep."""

    ARRIVED = "arrived"  #: the host got the planned memory, or the guest reached the smallest planned size
    NOTHING_MORE = "nothing-more"  #: the balloon inflated, and the host got nothing more
    GREW = "grew"  #: the guest began to use memory
    AT_WORK = "at-work"  #: the guest was busy, and its balloon was not touched
    LATE = "late"  #: the time was over, or the balloon moved too slowly, for example because the host has no CPU for the guest
    TAKEN_OVER = "taken-over"  #: another size was set, or the sweep was stopped
    FAILED = "failed"  #: the hypervisor reported an error, or the guest's process could not be read
    GONE = "gone"  #: the guest is gone


class SweepOver(Exception):
    """Error that ends the inflation."""

    def __init__(self, end: SweepEnd, error: str = "") -> None:
        self.end, self.error = end, error


@dataclass(frozen=True, slots=True)
class SweepCost:
    """CPU seconds per KiB that a guest's balloon needs, learned from its cheapest slices. Infinite if unknown."""

    backed: float = math.inf  #: for backed memory
    hollow: float = math.inf  #: for hollow memory; the guest's kernel may have to zero it first

    def limit(self, kib: float, *, hollow: bool) -> float:
        """Return the CPU seconds above which another program has run during a slice of `kib`."""
        return constants.FAR_MORE_WORK * kib * _at_most(max(self.backed, self.hollow) if hollow else self.backed) + constants.WORK_SECONDS

    def is_doubtful(self, kib: float, gained: float, cpu_seconds: float) -> bool:
        """Return whether another program may have run during a slice."""
        usual = _at_most(self.backed if gained > constants.HOLLOW_SHARE * kib else self.hollow)
        return cpu_seconds > constants.MORE_WORK * kib * usual + constants.WORK_SECONDS

    def learn(self, kib: float, gained: float, cpu_seconds: float) -> SweepCost:
        """Return the cost after one more slice. Slices that were partly hollow do not count."""
        if gained > constants.USUAL_SHARE * kib:
            return replace(self, backed=min(self.backed, cpu_seconds / kib))
        return replace(self, hollow=min(self.hollow, cpu_seconds / kib)) if gained < constants.HOLLOW_SHARE * kib else self


def _at_most(cost: float) -> float:
    return min(cost, 1 / SLOW_BALLOON_KIB_PER_SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """Plan of a sweep."""

    size: int  #: size before and after the sweep
    bottom: int  #: smallest size that the sweep may ask for
    gain: float  #: planned gain of the host
    hollow: float = 0.0  #: guest memory that the host does not back; a balloon often gets it first
    usable: float = 0.0  #: usable memory according to the statistics of the plan
    measured: float = math.inf  #: time of these statistics, in monotonic seconds; infinite if their age does not matter
    within: float = math.inf  #: seconds after which the sweep asks for no smaller size
    cost: SweepCost = SweepCost()


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOutcome:
    """Outcome of a sweep."""

    guest: Entity
    incarnation: str
    plan: SweepPlan
    end: SweepEnd
    ended: float  #: monotonic seconds
    lowest: float  #: smallest size that the guest was asked for
    gave: float  #: gain of the host
    seconds: float  #: time without headroom
    reaction: float  #: longest time from growth in the guest until it has headroom again
    cost: SweepCost = SweepCost()
    is_back: bool = True  #: the deflate command was sent, or the balloon never inflated
    error: str = ""

    @property
    def began(self) -> bool:
        """Whether the balloon inflated."""
        return self.lowest < self.plan.size

    @property
    def missed(self) -> float:
        """Planned memory that the host did not gain; 0 if the guest ended the sweep."""
        complete = self.began and self.end in {SweepEnd.ARRIVED, SweepEnd.NOTHING_MORE}
        return self.plan.gain - self.gave if complete and self.gave < constants.GOT_SHARE * self.plan.gain else 0.0

    def __str__(self) -> str:
        gave = f"reclaimed {format_kib(self.gave)} of {format_kib(self.plan.gain)} in {self.seconds:.2f} s"
        return f"{gave}, {self.end}{': ' if self.error else ''}{self.error}"


REST_SECONDS: Final = {
    SweepEnd.AT_WORK: 2.0, SweepEnd.GREW: 10.0, SweepEnd.LATE: 30.0, SweepEnd.FAILED: 60.0, SweepEnd.NOTHING_MORE: 10.0,
}  # fmt: skip
"""Time until the next sweep, keyed by the end of the last sweep. Bursts and CPU shortage last seconds, a stuck balloon much longer."""

IN_VAIN_SHARE: Final = 0.25
IN_VAIN_SECONDS: Final = 120.0
"""If a guest's sweeps all gain less than `IN_VAIN_SHARE` of their plans in this time, mom pauses them as long."""

SHOWN_SECONDS: Final = 60.0

MISSED_SECONDS: Final = 600.0
"""For this many seconds after a sweep missed memory, mom expects so much less from the guest's next sweeps."""


@dataclass(frozen=True, slots=True)
class SweepHistory:
    """History of one guest's sweeps. Times are monotonic seconds."""

    last: SweepOutcome | None = None
    cost: SweepCost = field(default_factory=SweepCost)
    rests_until: float = -math.inf
    in_vain_since: float = math.inf  #: time since which no sweep gained enough
    missed: float = 0.0  #: KiB that sweeps since `missed_since` were planned to gain and did not
    missed_since: float = -math.inf

    def shown(self, now: float) -> SweepOutcome | None:
        """Return the last sweep if it ended recently."""
        return self.last if self.last is not None and now - self.last.ended < SHOWN_SECONDS else None

    def missed_lately(self, now: float) -> float:
        """Return the KiB that sweeps missed within `MISSED_SECONDS`."""
        return self.missed if now - self.missed_since < MISSED_SECONDS else 0.0

    def after(self, outcome: SweepOutcome, now: float) -> SweepHistory:
        """Return the history after one more sweep."""
        pause, since = REST_SECONDS.get(outcome.end, 0.0), self.in_vain_since
        if outcome.gave > IN_VAIN_SHARE * outcome.plan.gain:
            since = math.inf
        elif pause:
            since = min(since, outcome.ended)
            pause = max(pause, IN_VAIN_SECONDS) if outcome.ended - since >= IN_VAIN_SECONDS else pause
        history = replace(self, last=outcome, cost=outcome.cost, rests_until=outcome.ended + pause, in_vain_since=since)
        if not outcome.missed:
            return history
        if now - self.missed_since < MISSED_SECONDS:
            return replace(history, missed=self.missed + outcome.missed)
        return replace(history, missed=outcome.missed, missed_since=now)
