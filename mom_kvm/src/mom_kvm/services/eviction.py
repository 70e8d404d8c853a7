"""Services that move guests to other hosts, by a hypervisor, a cluster manager, or an operator's command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mom_core import Decision, Entity, Guest


@dataclass(frozen=True, slots=True)
class MoverAbilities:
    """Abilities of a mover.

    :param live: whether guests run during the move; None if unknown
    :param chooses: whether the mover accepts `Destination.ANYWHERE`
    :param within: group of hosts between which guests move, such as a cluster's name; empty for all hosts
    """

    live: bool | None = None
    chooses: bool = False
    within: str = ""


class MovePreparation(Protocol):
    """Service that prepares a guest for a move, for example by reclaiming unused memory.

    mom abandons a call half a minute after `seconds`, and moves the guest in any case.
    """

    def prepare(self, guest: Entity, seconds: float) -> str:
        """Prepare a guest within `seconds`. Return a text that describes the result. Raise `MomError` on failure."""


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """Progress of a guest's move. `error` says why the last move failed; empty if it did not."""

    moving: bool
    error: str = ""


class GuestMoves(Protocol):
    """Service that moves guests to other hosts. Thread-safe; does not wait."""

    @property
    def control(self) -> str:
        """Name of the control that moves a guest. Its value is a `Destination` as a string."""

    def mover(self) -> tuple[str, MoverAbilities] | None:
        """Return the first mover's name and abilities; None without a mover, or if it is not known yet."""

    def why_stays(self, guest: Guest) -> str:
        """Return why the guest would stay if the host were drained; empty if it would be moved."""

    def progress(self, guest: Guest) -> MoveProgress | None:
        """Return the progress according to the guest's fields; None if unknown."""


class HostDrain(Protocol):
    """Service that knows the moves ordered by a fleet, for a drain or balance. Thread-safe; does not wait."""

    def is_ordered(self, decision: Decision) -> bool:
        """Return whether the fleet has ordered exactly this move."""
