"""Guests that leave their host: what the plugin that moves them offers to one that has a reason to, and what that one offers to it.

Who empties a host knows where guests go; who moves them knows which may be moved, and how that goes. Both know only this.

What moves guests: each way of doing it is a mover, offered by a plugin. A host's own hypervisor is one; a cluster's management and a
command of the operator's are others. The contract is small so that a mover that hangs, dies or forgets does no harm: it is told to begin,
asked how it is, and told to give up, each by a call that may be abandoned. What was begun is noted on disk before, and asked for again
after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mom_core import Decision, Entity, Guest
from mom_kvm.destination import Destination


@dataclass(frozen=True, slots=True)
class MoverAbilities:
    """The abilities of a mover.

    :param live: whether the guest works on while it is moved; None: that is not known, and not counted on
    :param chooses: whether it takes `Destination.ANYWHERE`, and chooses the host itself
    :param within: between which hosts it moves guests: those whose movers say the same, such as a cluster's name. Empty: all
    """

    live: bool | None = None
    chooses: bool = False
    within: str = ""


class MoveStanding(StrEnum):
    """How a move is."""

    RUNNING = "running"
    DONE = "done"  #: the guest is not here any more
    FAILED = "failed"  #: it is over, and the guest is still here
    UNKNOWN = "unknown"  #: it may be any of these


@dataclass(frozen=True, slots=True)
class MoveReport:
    """How a move is, as its mover says, and why it failed."""

    standing: MoveStanding
    error: str = ""


@dataclass(frozen=True, slots=True)
class MoveJob:
    """One move of one guest.

    :param id: of this move, made by mom, and never used again: a mover that was told to begin it before does not begin it a second time
    :param seconds: how long it may take before it is given up
    :param time: when it was begun, in seconds since the epoch
    :param reference: result of the mover's `begin`; empty: none yet, or lost
    """

    guest: Entity
    destination: Destination
    id: str
    seconds: float
    time: float = 0.0
    reference: str = ""


class Mover(Protocol):
    """Moves guests. `name`, `abilities` and `why_not` wait for nothing; the others may take some seconds, and are abandoned after 30.

    Calls come from any thread, for several guests at once.
    """

    @property
    def name(self) -> str:
        """How people and files of state call it, such as the plugin's name."""

    @property
    def abilities(self) -> MoverAbilities:
        """Its abilities."""

    def why_not(self, destination: Destination) -> str:
        """Return why it moves no guest there; empty: it may."""

    def begin(self, job: MoveJob) -> str:
        """Begin to move a guest, and return a reference for `look`, also after a restart of mom: at most 400 characters.

        Raises `HypervisorError` only when nothing was begun. Where that is not certain, return nothing (an empty text), or raise another
        error, which is logged: `look` finds out.
        """

    def look(self, job: MoveJob) -> MoveReport:
        """Return how the move is. `UNKNOWN` or an error is better than a guess: mom tries a failed move again."""

    def cancel(self, job: MoveJob) -> None:
        """Give the move up, if that can be; `look` tells what came of it. Raises `HypervisorError` when that cannot be asked for."""


class MovePreparation(Protocol):
    """Preparation of a guest for a move, such as having it hand back unused memory, which is not sent then.

    Calls come in threads of their own, and are abandoned after `seconds` and half a minute. Then the guest is moved, whatever was said.
    """

    def prepare(self, guest: Entity, seconds: float) -> str:
        """Prepare a guest within so many seconds, and return what came of it in words. Raises `MomError` where nothing can be done."""


class EvictionField(StrEnum):
    """Fields that tell how a guest may leave; the plugin that knows guests' classes declares them."""

    MAY_MIGRATE = "may_migrate"  #: 1: it may be moved to another host
    MAY_SAVE = "may_save"  #: 1: it may be saved to disk
    MAY_PAUSE = "may_pause"  #: 1: it may be paused
    MAY_POWER_OFF = "may_power_off"  #: 1: it may be shut down
    WARNING = "leave_warning"  #: seconds of warning before that
    COMES_BACK = "comes_back"  #: 0: it is not undone when there is room again
    ANSWERS = "mem_guarantee_share"  #: named for each guest whenever that plugin answers, unknown where there is none
    CLASS = "sla_class"  #: the name of its class
    PRIORITY = "priority"  #: 0 to 100: the lowest goes first
    COST = "reclaim_cost"  #: among those of one priority the cheapest goes first


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """How the move of a guest that is still here goes: whether it is under way, and why the last one did not work (empty: it did, or there
    was none)."""

    moving: bool
    error: str = ""


class GuestMoves(Protocol):
    """The mover of guests to other hosts. Any thread may call this; wait for nothing."""

    @property
    def control(self) -> str:
        """The control that moves a guest; its value is a `Destination` as text."""

    def mover(self) -> Mover | None:
        """Return the mover here: the first of several; None: there is none, or that is not known yet."""

    def why_stays(self, guest: Guest) -> str:
        """Return why a drain of the host would not move that guest; empty: it would."""

    def progress(self, guest: Guest) -> MoveProgress | None:
        """Return how a guest's move goes, by its fields in a snapshot; None: unknown."""


class HostDrain(Protocol):
    """The emptying of this host, or evening out of a fleet, because the operator says so: such moves need no class that allows them
    everywhere, and are not counted.

    Any thread may call this; wait for nothing.
    """

    def is_ordered(self, decision: Decision) -> bool:
        """Tell whether that was decided so, with just this value."""
