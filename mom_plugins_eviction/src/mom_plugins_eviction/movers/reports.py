"""What movers say of a move, in short."""

from __future__ import annotations

from typing import Final

from mom_core import printable
from mom_toolkit import MoveReport, MoveStanding

RUNNING: Final = MoveReport(MoveStanding.RUNNING)
DONE: Final = MoveReport(MoveStanding.DONE)
UNKNOWN: Final = MoveReport(MoveStanding.UNKNOWN)


def failed(error: str) -> MoveReport:
    """It is over, and the guest is still here."""
    return MoveReport(MoveStanding.FAILED, printable(error, 400))
