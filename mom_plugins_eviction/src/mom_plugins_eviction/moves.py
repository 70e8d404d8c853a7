"""How guests' moves go, for a plugin that empties the host."""

from __future__ import annotations

from mom_core import Guest
from mom_plugins_eviction.fields import EVICTED, EVICTION_ERROR
from mom_plugins_eviction.steps import Step
from mom_toolkit import MoveProgress


class ControlledMoves:
    """`GuestMoves`: guests are moved by a control, and their fields say how that goes."""

    @property
    def control(self) -> str:
        """The control that moves a guest."""
        return Step.MIGRATE.control

    def progress(self, guest: Guest) -> MoveProgress | None:
        """By the guest's fields; None where they are not known."""
        doing, error = guest.fields.get(EVICTED), guest.fields.get(EVICTION_ERROR)
        if not isinstance(doing, str):
            return None
        return MoveProgress(bool(doing), error if isinstance(error, str) else "")
