"""Substitute for a plugin that moves guests."""

from mom_core import Guest
from mom_kvm import MoverAbilities

DOING, ERROR = "doing", "error"
"""Fields with the progress of a move, and its error."""


class FakeMoves:
    """Service that accepts every move, and reports progress from fields."""

    control = "move_it"

    def mover(self) -> tuple[str, MoverAbilities] | None:
        return None

    def why_stays(self, guest: Guest) -> str:
        return ""

    def is_moving(self, guest: Guest) -> bool | None:
        doing = guest.fields.get(DOING)
        return None if doing is None else bool(doing)

    def why_failed(self, guest: Guest) -> str:
        return str(guest.fields.get(ERROR, ""))
