"""Guests that leave their host: what the plugin that moves them offers to one that has a reason to, and what that one offers to it.

Who empties a host knows where guests go; who moves them knows which may be moved, and how that goes. Both know only this.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from mom_core import Decision, Guest
from mom_toolkit.services.movers import Mover


class EvictionField(StrEnum):
    """The fields by which it is known what may be done to a guest: the plugin that knows guests' classes declares them."""

    MAY_MIGRATE = "may_migrate"  #: 1: it may be moved to another host
    MAY_SAVE = "may_save"  #: 1: it may be saved to disk
    MAY_PAUSE = "may_pause"  #: 1: it may be paused
    MAY_POWER_OFF = "may_power_off"  #: 1: it may be shut down
    WARNING = "leave_warning"  #: seconds before that at which it is announced
    COMES_BACK = "comes_back"  #: 0: it is not undone when there is room again
    CLASS = "sla_class"  #: the name of its class
    PRIORITY = "priority"  #: 0 to 100: the lowest goes first
    COST = "reclaim_cost"  #: among those of one priority the cheapest goes first


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """How the move of a guest that is still here goes: whether it is under way, and why the last one did not work (empty: it did, or there
    was none)."""

    moving: bool
    error: str = ""


@runtime_checkable
class GuestMoves(Protocol):
    """The mover of guests to other hosts. Any thread may call this; wait for nothing."""

    @property
    def control(self) -> str:
        """The control that moves a guest; its value is a `Destination` as text."""

    def mover(self) -> Mover | None:
        """The mover here: the first of several; None: there is none, or that is not known yet."""

    def why_stays(self, guest: Guest) -> str:
        """Why that guest would not be moved when its host is drained, wherever to; empty: it would, as far as is known here."""

    def progress(self, guest: Guest) -> MoveProgress | None:
        """How a guest's move goes, by what a snapshot says of it; None: that is unknown."""


@runtime_checkable
class HostDrain(Protocol):
    """The emptying of this host, or evening out of a fleet, because the operator says so: such moves need no class that allows them
    everywhere, and are not counted.

    Any thread may call this; wait for nothing.
    """

    def is_ordered(self, decision: Decision) -> bool:
        """True if that was decided so, with just this value."""
