"""Services for moves of guests to other hosts by a hypervisor, a cluster's management, or an operator's command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mom_core import Decision, Entity, Guest


@dataclass(frozen=True, slots=True)
class MoverAbilities:
    """Abilities of a mover.

    :param live: guests run during the move; None if unknown
    :param chooses: the mover accepts `Destination.ANYWHERE`
    :param within: the mover moves guests only between hosts with the same string, such as a cluster's name; empty for all hosts
    """

    live: bool | None = None
    chooses: bool = False
    within: str = ""


class MovePreparation(Protocol):
    """Prepares a guest for a move, for example reclaims unused memory.

    mom abandons a call half a minute after `seconds`, and moves the guest in any case.
    """

    def prepare(self, guest: Entity, seconds: float) -> str:
        """Prepare a guest within `seconds`, and return the result in words, or raise `MomError`."""


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """Progress of a move, and why the last one failed."""

    moving: bool
    error: str = ""


class GuestMoves(Protocol):
    """Moves guests to other hosts. Thread-safe; does not wait."""

    @property
    def control(self) -> str:
        """Control that moves a guest; its value is a `Destination` as a string."""

    def mover(self) -> tuple[str, MoverAbilities] | None:
        """Return the first mover's name and abilities; None if there is none, or not known yet."""

    def why_stays(self, guest: Guest) -> str:
        """Return why a drain of the host would not move this guest; empty if it would."""

    def progress(self, guest: Guest) -> MoveProgress | None:
        """Return the progress according to the guest's fields; None if unknown."""


class HostDrain(Protocol):
    """Drains ordered by an operator. Such moves need no class that allows them. Thread-safe; does not wait."""

    def is_ordered(self, decision: Decision) -> bool:
        """Return whether the operator ordered exactly this decision."""
