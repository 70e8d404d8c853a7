"""How guests' moves go, for a plugin that empties the host."""

from __future__ import annotations

from collections.abc import Callable

from mom_core import Guest
from mom_plugins_eviction.fields import EVICTED, EVICTION_ERROR
from mom_plugins_eviction.move_jobs import MOVED
from mom_plugins_eviction.steps import Step
from mom_toolkit import MoveProgress, Mover


class ControlledMoves:
    """`GuestMoves`: guests are moved by a control, and their fields say how that goes.

    :param mover: what moves guests here
    :param why_stays: why a drain leaves a guest where it is
    """

    def __init__(self, mover: Callable[[], Mover | None], why_stays: Callable[[Guest], str]) -> None:
        self._mover, self._why_stays = mover, why_stays

    @property
    def control(self) -> str:
        """The control that moves a guest."""
        return Step.MIGRATE.control

    def mover(self) -> Mover | None:
        """What moves guests here, if anything does."""
        return self._mover()

    def why_stays(self, guest: Guest) -> str:
        """By its class, and by what the mover can do."""
        return self._why_stays(guest)

    def progress(self, guest: Guest) -> MoveProgress | None:
        """By the guest's fields; None where they are not known."""
        doing, error = guest.fields.get(EVICTED), guest.fields.get(EVICTION_ERROR)
        if not isinstance(doing, str):
            return None
        return MoveProgress(MOVED in doing, error if isinstance(error, str) else "")
