"""Substitute for a plugin that moves guests."""

from mom_core import Guest
from mom_kvm import MoveProgress, MoverAbilities

DOING, ERROR = "doing", "error"
"""Fields with the progress of a move, and its error."""


class FakeMoves:
    """Service that accepts every move, and reports progress from fields."""

    control = "move_it"

    def mover(self) -> tuple[str, MoverAbilities] | None:
        return None

    def why_stays(self, guest: Guest) -> str:
        return ""

    def progress(self, guest: Guest) -> MoveProgress | None:
        doing, error = guest.fields.get(DOING), guest.fields.get(ERROR, "")
        return MoveProgress(bool(doing), str(error)) if doing is not None else None
