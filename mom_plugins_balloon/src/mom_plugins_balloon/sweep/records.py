"""Records of a sweep: its plan, the CPU time that a balloon needs, and the outcome. Sizes are KiB."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from mom_core import Entity, format_kib
from mom_plugins_balloon.parameters import SLOW_BALLOON_KIB_PER_SECOND
from mom_plugins_balloon.sweep import limits


class SweepEnd(StrEnum):
    """Reason for the end of a sweep."""

    ARRIVED = "arrived"  #: the host got the planned memory, or the guest reached the smallest planned size
    NOTHING_MORE = "nothing-more"  #: the balloon inflated, and the host got nothing more
    GREW = "grew"  #: the guest began to use memory
    AT_WORK = "at-work"  #: the guest was at work, and its balloon was not touched
    LATE = "late"  #: the time was over, or the balloon was stuck
    SLOW = "slow"  #: the balloon moved too slowly, for example because the host has no CPU for the guest
    TAKEN_OVER = "taken-over"  #: another size was set, or the sweep was stopped
    UNSEEN = "unseen"  #: the guest's process could not be read
    FAILED = "failed"  #: the hypervisor reported an error
    GONE = "gone"  #: the guest is gone


class SweepOver(Exception):
    """Inflation ends here."""

    def __init__(self, end: SweepEnd) -> None:
        self.end = end


@dataclass(frozen=True, slots=True)
class SweepCost:
    """CPU seconds per KiB that a guest's balloon needs, from its cheapest slices. Infinite: unknown."""

    backed: float = math.inf  #: for memory that the host backs
    hollow: float = math.inf  #: for hollow memory, which the guest's kernel may have to zero first

    def limit(self, kib: float, *, hollow: bool) -> float:
        """Return the CPU seconds of a slice, perhaps a hollow one, above which something besides the balloon is at work."""
        return limits.FAR_MORE_WORK * kib * _at_most(max(self.backed, self.hollow) if hollow else self.backed) + limits.WORK_SECONDS

    def is_doubtful(self, kib: float, gained: float, cpu_seconds: float) -> bool:
        """Return whether something besides the balloon may have been at work in a slice."""
        usual = _at_most(self.backed if gained > limits.VAIN_SHARE * kib else self.hollow)
        return cpu_seconds > limits.MORE_WORK * kib * usual + limits.WORK_SECONDS

    def learn(self, kib: float, gained: float, cpu_seconds: float) -> SweepCost:
        """Return the cost with one more slice. A slice that is partly hollow teaches nothing."""
        if gained > limits.USUAL_SHARE * kib:
            return replace(self, backed=min(self.backed, cpu_seconds / kib))
        return replace(self, hollow=min(self.hollow, cpu_seconds / kib)) if gained < limits.VAIN_SHARE * kib else self


def _at_most(cost: float) -> float:
    return min(cost, 1 / SLOW_BALLOON_KIB_PER_SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """Plan of a sweep."""

    size: int  #: of the guest before the sweep, and after it
    bottom: int  #: smallest size that the sweep may ask for
    gain: float  #: memory that the host shall get
    hollow: float = 0.0  #: guest memory that the host does not back; a balloon often gets it first
    wait: float  #: seconds that the sweep may take beside those of a slow balloon
    usable: float = 0.0  #: usable memory in the guest, by the statistics that the plan is based on
    measured: float = math.inf  #: when those were made, in monotonic seconds; infinite: their age does not matter
    within: float = math.inf  #: seconds after which the sweep asks for no smaller size
    cost: SweepCost = SweepCost()
    first_slice: float = limits.FIRST_SLICE_KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOutcome:
    """Outcome of a sweep."""

    guest: Entity
    incarnation: str
    plan: SweepPlan
    end: SweepEnd
    ended: float  #: monotonic seconds
    lowest: float  #: smallest size that the guest was asked for
    gave: float  #: memory that the host got
    seconds: float  #: time without its headroom
    reaction: float  #: longest time from growth in the guest until it has headroom again
    cost: SweepCost = SweepCost()
    resident: float | None = None  #: RSS of the guest's process at the end; None: unknown
    next_slice: float = limits.FIRST_SLICE_KIB  #: inflation within `SLICE_SECONDS`, by its last slice
    is_back: bool = True  #: the guest was asked to take its headroom back, or never lacked it
    error: str = ""

    @property
    def began(self) -> bool:
        """Whether the balloon inflated."""
        return self.lowest < self.plan.size

    @property
    def missed(self) -> float:
        """Planned memory that the host did not get from a sweep that the guest did not end."""
        complete = self.began and self.end in {SweepEnd.ARRIVED, SweepEnd.NOTHING_MORE}
        return self.plan.gain - self.gave if complete and self.gave < limits.GOT_SHARE * self.plan.gain else 0.0

    def __str__(self) -> str:
        gave = f"gave {format_kib(self.gave)} of {format_kib(self.plan.gain)} in {self.seconds:.2f} s"
        return f"{gave}, {self.end}{': ' if self.error else ''}{self.error}"
