"""Helpers for movers' reports."""

from __future__ import annotations

from typing import Final

from mom_core import MomError, printable
from mom_kvm import MoveReport, MoveStanding

RUNNING: Final = MoveReport(MoveStanding.RUNNING)
DONE: Final = MoveReport(MoveStanding.DONE)
UNKNOWN: Final = MoveReport(MoveStanding.UNKNOWN)


def why_failed(error: BaseException) -> str:
    """Return the error message; for a bug, with the error's type."""
    return printable(str(error) if isinstance(error, MomError) else f"{type(error).__name__}: {error}", 400)


def failed(error: str) -> MoveReport:
    """Report a failure; the guest stayed."""
    return MoveReport(MoveStanding.FAILED, printable(error, 400))
