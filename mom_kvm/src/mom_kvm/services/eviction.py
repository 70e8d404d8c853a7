"""Guests that leave their host: services between the plugin that moves guests, and plugins that empty the host.

Each way to move guests is a mover, offered by a plugin: a host's hypervisor, a cluster's management, or an operator's command. Movers may
hang, die or forget without harm. mom tells them to begin, asks for the state, and tells them to give up, each by a call that it may
abandon. It notes every move on disk first, and asks for its state after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from mom_core import Decision, Entity, Guest
from mom_kvm.destination import Destination


@dataclass(frozen=True, slots=True)
class MoverAbilities:
    """Abilities of a mover.

    :param live: the guest works on while it is moved; None: unknown, and not counted on
    :param chooses: it takes `Destination.ANYWHERE`, and chooses the host itself
    :param within: it moves guests between hosts whose movers say the same, such as a cluster's name; empty: all hosts
    """

    live: bool | None = None
    chooses: bool = False
    within: str = ""


class MoveStanding(StrEnum):
    """State of a move."""

    RUNNING = "running"
    DONE = "done"  #: the guest is not here any more
    FAILED = "failed"  #: it is over, and the guest is still here
    UNKNOWN = "unknown"  #: it may be any of these


@dataclass(frozen=True, slots=True)
class MoveReport:
    """State of a move, from its mover, and why it failed."""

    standing: MoveStanding
    error: str = ""


@dataclass(frozen=True, slots=True)
class MoveJob:
    """Move of a guest.

    :param id: made by mom, and never reused: a mover begins each id once
    :param seconds: timeout
    :param time: of its begin, in seconds since the epoch
    :param reference: result of the mover's `begin`; empty: none yet, or lost
    """

    guest: Entity
    destination: Destination
    id: str
    seconds: float
    time: float = 0.0
    reference: str = ""


class Mover(Protocol):
    """Moves guests. `name`, `abilities` and `why_not` return at once; other calls may take seconds, and are abandoned after 30.

    Calls come from any thread, for several guests at once.
    """

    @property
    def name(self) -> str:
        """Name for people and state files, such as the plugin's name."""

    @property
    def abilities(self) -> MoverAbilities:
        """Abilities now."""

    def why_not(self, destination: Destination) -> str:
        """Return why it moves no guest there; empty: it does."""

    def begin(self, job: MoveJob) -> str:
        """Begin to move a guest, and return a reference for `look`, valid after a restart of mom: at most 400 characters.

        Raises `HypervisorError` only if nothing was begun. If that is uncertain, returns an empty text or raises another error, which is
        logged; `look` finds out.
        """

    def look(self, job: MoveJob) -> MoveReport:
        """Return the state of the move. `UNKNOWN` or an error is better than a guess: mom tries a failed move again."""

    def cancel(self, job: MoveJob) -> None:
        """Give the move up if possible; `look` tells the outcome. Raises `HypervisorError` if it cannot be asked for."""


class MovePreparation(Protocol):
    """Prepares a guest for a move, for example by returning unused memory, which is then not sent.

    Calls come in threads of their own, and are abandoned after `seconds` and half a minute. The guest is moved in any case.
    """

    def prepare(self, guest: Entity, seconds: float) -> str:
        """Prepare a guest within so many seconds, and return the result in words. Raises `MomError` if nothing can be done."""


class EvictionField(StrEnum):
    """Fields for how a guest may leave; the plugin of guests' classes declares them."""

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
    """Progress of the move of a guest that is still here: under way or not, and why the last one failed (empty: it did not, or there was
    none)."""

    moving: bool
    error: str = ""


class GuestMoves(Protocol):
    """Mover of guests to other hosts. For any thread; does not wait."""

    @property
    def control(self) -> str:
        """Control that moves a guest; its value is a `Destination` as text."""

    def mover(self) -> Mover | None:
        """Return the first mover here; None: there is none, or it is not known yet."""

    def why_stays(self, guest: Guest) -> str:
        """Return why a drain of the host would not move this guest; empty: it would."""

    def progress(self, guest: Guest) -> MoveProgress | None:
        """Return the progress of a guest's move, from its fields in a snapshot; None: unknown."""


class HostDrain(Protocol):
    """Emptying of this host, or evening out of a fleet, ordered by the operator: such moves need no class that allows them everywhere, and
    are not counted. For any thread; does not wait."""

    def is_ordered(self, decision: Decision) -> bool:
        """Tell whether exactly this decision was ordered."""
