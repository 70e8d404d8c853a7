"""Movers' reports on a move, in short."""

from __future__ import annotations

from typing import Final

from mom_core import MomError, printable
from mom_kvm import MoveReport, MoveStanding

RUNNING: Final = MoveReport(MoveStanding.RUNNING)
DONE: Final = MoveReport(MoveStanding.DONE)
UNKNOWN: Final = MoveReport(MoveStanding.UNKNOWN)


def why_failed(error: BaseException) -> str:
    """Return why a call of a hypervisor or a mover has failed: by its own words, and by its kind where it is a mistake in a program."""
    return printable(str(error) if isinstance(error, MomError) else f"{type(error).__name__}: {error}", 400)


def failed(error: str) -> MoveReport:
    """It is over, and the guest is still here."""
    return MoveReport(MoveStanding.FAILED, printable(error, 400))
