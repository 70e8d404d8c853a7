"""Steps for guests of a full host. Sizes in KiB."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from mom_core import Guest, Snapshot
from mom_kvm import GuestState


class EvictionField(StrEnum):
    """Fields that say how a guest may leave its host."""

    MAY_MIGRATE = "may_migrate"  #: 1: may be moved to another host
    MAY_SAVE = "may_save"  #: 1: may be saved to disk
    MAY_PAUSE = "may_pause"  #: 1: may be paused
    MAY_POWER_OFF = "may_power_off"  #: 1: may be shut down
    WARNING = "leave_warning"  #: seconds between announcement and step
    COMES_BACK = "comes_back"  #: 0: does not return when the host has memory again
    ANSWERS = "mem_guarantee_share"  #: each guest has it if the plugin for classes works; the value may be unknown
    CLASS = "sla_class"
    PRIORITY = "priority"  #: 0 to 100; the lowest leaves first
    COST = "reclaim_cost"  #: within a priority, the cheapest guest leaves first


class Step(StrEnum):
    """Steps on guests, the preferred step first.

    Shutting down is last, because programs lose their work.
    """

    MIGRATE = "migrate"  #: the guest continues on another host, with a short slowdown
    SAVE = "save"  #: the guest stops and frees all its memory; its programs will continue
    PAUSE = "pause"  #: the guest stops; its memory use stays constant
    SHUT_DOWN = "shut down"  #: the guest frees all its memory; its programs will restart

    @property
    def control(self) -> str:
        """Control, such as `guest_shutdown`."""
        return f"guest_{self.replace(' ', '')}"


class StepTerms(NamedTuple):
    """Field of a guest that permits a step, participle for messages, and the guest's state after the step (None: it has left)."""

    allowed_by: EvictionField
    participle: str
    end: GuestState | None = None


TERMS: Final[Mapping[Step, StepTerms]] = {
    Step.MIGRATE: StepTerms(EvictionField.MAY_MIGRATE, "moved to another host"),
    Step.SAVE: StepTerms(EvictionField.MAY_SAVE, "saved to disk", GuestState.SAVED),
    Step.PAUSE: StepTerms(EvictionField.MAY_PAUSE, "paused", GuestState.PAUSED),
    Step.SHUT_DOWN: StepTerms(EvictionField.MAY_POWER_OFF, "shut down", GuestState.OFF),
}

STEP_OF: Final[Mapping[str, Step]] = {step.control: step for step in Step}


FULL_PERCENT: Final = 10.0
"""The host is full if all tasks wait for memory for more than this percentage of ten seconds."""

LEAST_SHARE: Final = 0.02
"""The host is also full if less than this share of its memory is available."""

CALM_SHARE: Final = 0.15
"""A guest may come back if this share of the host's memory is still available with the guest."""

STALL_RATIO: Final = 0.5
"""Fraction of `FULL_PERCENT` at which the host is full, if it was full before or is short according to the balloon plugin."""

URGENT: Final = "low"
"""`host_memory_state` of a host that cannot wait."""

HYSTERESIS: Final = 1.5
"""Multiple of `LEAST_SHARE` at which a full host counts as relieved."""


@dataclass(frozen=True, slots=True)
class HostPressure:
    """Memory pressure of the host. None or an empty state if unknown.

    :param full: share of the last ten seconds in which all tasks waited for memory (%)
    :param state: the balloon plugin's state: high, soft, hard or low
    """

    full: float | None = None
    total: float | None = None
    available: float | None = None
    state: str = ""
    reserved: float = 0.0

    @classmethod
    def of(cls, snapshot: Snapshot) -> HostPressure:
        """Return the host's pressure."""
        host = snapshot.host
        full, total, available = (host.number(name) for name in ("psi_memory_full_avg10", "mem_available", "mem_really_available"))
        return cls(full, total, available, host.text("host_memory_state") or "", host.number("mem_reserved") or 0.0)

    @property
    def share(self) -> float | None:
        """Fraction of the host's memory that is available; None if unknown or invalid."""
        if self.available is None or self.total is None or not 0 < self.total < math.inf or not 0 <= self.available < math.inf:
            return None
        return self.available / self.total

    def is_hard(self, already: bool = False) -> bool | None:
        """Return whether the host is full; None if unknown.

        :param already: whether the host was full before (hysteresis)
        """
        share = self.share
        if share is None:
            return None
        if share < LEAST_SHARE * (HYSTERESIS if already else 1.0):
            return True
        if share >= CALM_SHARE:
            return False  # stalls alone do not count: a guest in a small cgroup can stall while the host has plenty
        if self.state == URGENT:
            return True
        confirmed = already or self.state == "hard"
        return self.full is not None and self.full > FULL_PERCENT * (STALL_RATIO if confirmed else 1.0)

    def has_time(self) -> bool:
        """Return whether a move can wait some seconds; True if figures are unknown."""
        return self.state != URGENT and (self.share is None or self.share >= LEAST_SHARE)

    def is_calm(self, needs: float) -> bool:
        """Return whether the host stays calm if `needs` more KiB and all reservations are in use."""
        if self.share is None or self.available is None or self.total is None or self.state in ("hard", "low"):
            return False
        if self.full is not None and self.full > 0.1 * FULL_PERCENT:
            return False
        return (self.available - self.reserved - needs) / self.total >= CALM_SHARE


DEFAULT_WARNING: Final = 30.0
"""Warning time in seconds for guests without a class."""


@dataclass(frozen=True, slots=True)
class EvictionCandidate:
    """Guest with permitted steps, memory that it would free, and cost per KiB."""

    identity: str
    allowed: frozenset[Step]
    frees: float
    cost: float
    priority: int


def candidate_of(guest: Guest, permitted: Collection[Step]) -> EvictionCandidate | None:
    """Return a candidate for these steps; None if nothing can be done, or if the guest's memory is unknown."""
    allowed = frozenset(step for step in permitted if not guest.why_blocked(step.control))
    frees = guest.number("rss") or guest.number("balloon_cur")
    if not allowed or frees is None or guest.properties.get("state") == "paused":
        return None
    cost, priority = (guest.number(name) for name in (EvictionField.COST, EvictionField.PRIORITY))
    return EvictionCandidate(guest.id, allowed, frees, 1.0 if cost is None else cost, 50 if priority is None else int(priority))


def warning_of(guest: Guest) -> float:
    """Return the warning time in seconds."""
    warning = guest.number(EvictionField.WARNING)
    return DEFAULT_WARNING if warning is None else max(0.0, warning)


def needs_of(guest: Guest, step: Step, host_swapped: float | None = None) -> float | None:
    """Return the memory (KiB) that a guest needs on return; None if unknown.

    A restored guest needs the memory and swap that it had on the host. A booting guest needs up to its maximum.

    :param host_swapped: used swap of the host, an upper bound for unknown guest swap
    """
    rss, current, swapped = (guest.number(name) for name in ("rss", "balloon_cur", "host_swap"))
    if swapped is None and rss is not None:
        room = max(0.0, (current or 0.0) - rss)
        swapped = room if host_swapped is None else min(room, host_swapped)
    held = None if rss is None or swapped is None else rss + swapped
    sizes = (held, current, guest.number("balloon_max")) if step is Step.SHUT_DOWN else (current if held is None else held,)
    return max((size for size in sizes if size is not None), default=None)


def choose(candidates: Sequence[EvictionCandidate], lacks: float) -> tuple[EvictionCandidate, Step] | None:
    """Return the next guest and its step.

    The earliest permitted `Step` comes first, then the cheapest class, then the smallest guest that frees what the host `lacks`.
    If no guest frees enough, the largest comes first.
    """
    for step in Step:
        able = [candidate for candidate in candidates if step in candidate.allowed]
        if able:
            cheapest = min((item.priority, item.cost) for item in able)
            equals = [item for item in able if (item.priority, item.cost) == cheapest]
            enough = [item for item in equals if item.frees >= lacks]
            return min(enough or equals, key=lambda item: (item.frees if enough else -item.frees, item.identity)), step
    return None


def most_stopped(guests: int, share: float) -> int:
    """Return the maximum number of guests to stop at once: at least one, never all."""
    return 0 if guests < 2 else min(max(1, int(share * guests)), guests - 1)


class Quota(NamedTuple):
    """Numbers of guests that are stopped or have moved away, for the setting `share`.

    :param guests: all guests, including stopped guests
    :param ever: all guests, including those that have moved away
    """

    share: float
    guests: int
    ever: int
    stopped: int
    moved: int

    def with_one(self, step: Step) -> Quota:
        """Return a copy that counts another step."""
        return self._replace(moved=self.moved + 1) if step is Step.MIGRATE else self._replace(stopped=self.stopped + 1)

    def why_reached(self, step: Step) -> str:
        """Return why the limit forbids another step, or an empty string."""
        if step is Step.MIGRATE:
            most = most_stopped(self.ever, self.share)
            reached = f"{self.moved} guests have moved away within the last hour; the limit is {most} of {self.ever}"
            return reached if self.moved >= most else ""
        most = most_stopped(self.guests, self.share)
        return f"{self.stopped} guests are stopped, or about to be; the limit is {most} of {self.guests}" if self.stopped >= most else ""
