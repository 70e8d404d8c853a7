"""The steps that can be taken when the host stays full, and on which guest first: pure, numbers in and a step out. Sizes in KiB."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mom_core import Guest, Snapshot
from mom_kvm import EvictionField
from mom_plugins_sla.eviction.settings import EvictionSettings


class Step(StrEnum):
    """One rung of the ladder, in the order in which they are taken.

    Saving comes before pausing: both let the guest stand still, and only saving gives the host its memory. Shutting down comes last, as
    programs lose what they were doing.
    """

    MIGRATE = "migrate"  #: it works on elsewhere, a moment slower
    SAVE = "save"  #: it stands still, gives all of its memory back, and goes on where it was
    PAUSE = "pause"  #: it stands still, and takes no more memory; it gives none back either
    SHUT_DOWN = "shut down"  #: it gives all of its memory back, and its programs must start anew

    @property
    def control(self) -> str:
        """The control that does it, such as `guest_shutdown`."""
        return f"guest_{self.replace(' ', '')}"

    @property
    def allowed_by(self) -> EvictionField:
        """The field of a guest that allows it."""
        return _ALLOWED_BY[self]


_ALLOWED_BY: Final[Mapping[Step, EvictionField]] = {
    Step.MIGRATE: EvictionField.MAY_MIGRATE,
    Step.PAUSE: EvictionField.MAY_PAUSE,
    Step.SAVE: EvictionField.MAY_SAVE,
    Step.SHUT_DOWN: EvictionField.MAY_POWER_OFF,
}

STEP_OF: Final[Mapping[str, Step]] = {step.control: step for step in Step}
"""The step that a control does."""


WAITS: Final = 0.5
"""Of the setting `full`: so much waiting is enough when the plugin balloon says that the host is short, too; and to stay full."""

NO_TIME: Final = "low"
"""The state of a host that waits for nothing."""

ROOM_TO_END: Final = 1.5
"""Of the setting `least`: a full host stays so until this much is available. Else each page that moves would begin the wait anew."""


@dataclass(frozen=True, slots=True)
class HostPressure:
    """State of the host: the share of the last ten seconds in which all tasks waited for memory (%), its memory and what of it is
    available, the state that the plugin balloon gives it (high, soft, hard or low), and what of it is kept for launches. None, and an empty
    state: unknown.
    """

    full: float | None = None
    total: float | None = None
    available: float | None = None
    state: str = ""
    reserved: float = 0.0

    @classmethod
    def of(cls, snapshot: Snapshot) -> HostPressure:
        """What a snapshot says of it."""
        host = snapshot.host
        full, total, available = (host.number(name) for name in ("psi_memory_full_avg10", "mem_available", "mem_really_available"))
        return cls(full, total, available, host.text("host_memory_state") or "", host.number("mem_reserved") or 0.0)

    @property
    def share(self) -> float | None:
        """The share of the host's memory that is available; None when that is unknown, or makes no sense."""
        if self.available is None or self.total is None or not 0 < self.total < math.inf or not 0 <= self.available < math.inf:
            return None
        return self.available / self.total

    def is_hard(self, limits: EvictionSettings, already: bool = False) -> bool | None:
        """Return True when the host is full. None: not enough is known to say so, which is no reason to do anything.

        :param already: whether it was full the last time, so that it takes a little more to end
        """
        share = self.share
        if share is None:
            return None
        if share < limits.least * (ROOM_TO_END if already else 1.0):
            return True
        if share >= limits.calm:
            return False  # waiting alone is not enough: a guest's own small cgroup can wait while the host has plenty
        if self.state == NO_TIME:
            return True
        helped = already or self.state == "hard"
        return self.full is not None and self.full > limits.full * (WAITS if helped else 1.0)

    def has_time(self, limits: EvictionSettings) -> bool:
        """Return True when the host can wait some seconds before a guest that leaves is moved. What is not known does not hurry."""
        return self.state != NO_TIME and (self.share is None or self.share >= limits.least)

    def is_calm(self, limits: EvictionSettings, needs: float) -> bool:
        """Return True when there is room for a guest that takes `needs` KiB when it comes back, beside what is kept for launches, and the
        host is as calm then as it should be.
        """
        if self.share is None or self.available is None or self.total is None or self.state in ("hard", "low"):
            return False
        if self.full is not None and self.full > 0.1 * limits.full:
            return False
        return (self.available - self.reserved - needs) / self.total >= limits.calm


LEAST_KNOWN_WARNING: Final = 30.0
"""Seconds, where a class gives none: as a class that allows something has by itself."""


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """Guest, what its class allows, what the host gets by it, and what it costs: a KiB of a guest of cost 2 is twice as dear."""

    identity: str
    allowed: frozenset[Step]
    frees: float
    cost: float
    priority: int


def candidate_of(guest: Guest, can_migrate: bool) -> EvictionCandidate | None:
    """Return a guest as a candidate, if anything may be done to it. Only what its class says explicitly counts as allowed."""
    if guest.blocked.get("*") or guest.properties.get("state") == "paused":
        return None
    fields = guest.fields
    allowed = frozenset(
        step
        for step in Step
        if fields.get(step.allowed_by) == 1 and not guest.blocked.get(step.control) and (step is not Step.MIGRATE or can_migrate)
    )
    frees = guest.number("rss") or guest.number("balloon_cur")
    if not allowed or frees is None or needs_of(guest, Step.SAVE) is None:
        return None
    cost, priority = (guest.number(name) for name in (EvictionField.COST, EvictionField.PRIORITY))
    return EvictionCandidate(guest.id, allowed, frees, 1.0 if cost is None else cost, 50 if priority is None else int(priority))


def warning_of(guest: Guest) -> float:
    """Return how many seconds before a step it is announced."""
    warning = guest.number(EvictionField.WARNING)
    return LEAST_KNOWN_WARNING if warning is None else max(0.0, warning)


def needs_of(guest: Guest, step: Step, host_swapped: float | None = None) -> float | None:
    """Return how much memory a guest takes when it comes back, in KiB; None when that is unknown. One that goes on where it was takes what
    the host held of it, in its memory and in its swap, whatever it was sold; one that boots may take all that it can have.

    :param host_swapped: what is in the host's swap in all: what of it is the guest's is not told of one whose memory is shared, and may be
        all, as far as the guest's size goes; None: unknown
    """
    rss, current, swapped = (guest.number(name) for name in ("rss", "balloon_cur", "host_swap"))
    if swapped is None and rss is not None:
        room = max(0.0, (current or 0.0) - rss)
        swapped = room if host_swapped is None else min(room, host_swapped)
    held = None if rss is None or swapped is None else rss + swapped
    sizes = (held, current, guest.number("balloon_max")) if step is Step.SHUT_DOWN else (current if held is None else held,)
    return max((size for size in sizes if size is not None), default=None)


def choose(candidates: Sequence[EvictionCandidate], lacks: float) -> tuple[EvictionCandidate, Step] | None:
    """Return which guest is next, and for what: the lowest rung that any guest's class allows; there the guest whose class is the cheapest;
    among equals the smallest that is enough for what the host `lacks`, or else the largest.
    """
    for step in Step:
        able = [candidate for candidate in candidates if step in candidate.allowed]
        if able:
            cheapest = min((item.priority, item.cost) for item in able)
            same = [item for item in able if (item.priority, item.cost) == cheapest]
            return min(same, key=lambda one: (one.frees < lacks, one.frees if one.frees >= lacks else -one.frees, one.identity)), step
    return None


def most_stopped(guests: int, share: float) -> int:
    """Return how many of so many guests may be stopped at once: at least one, but never all of them, whatever the share."""
    return 0 if guests < 2 else min(max(1, int(share * guests)), guests - 1)
