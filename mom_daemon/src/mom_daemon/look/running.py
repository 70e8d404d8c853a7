"""Queries to the running mom, which plugins answer (`mom_source`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mom_core import MomError

if TYPE_CHECKING:
    from mom_daemon import ReportDocument
    from mom_kvm import PolicyText


class NoSuchGuest(MomError):
    """Unknown name or id; the hint has similar names."""


class NotRunning(MomError):
    """No mom is running."""


class RunningMom(Protocol):
    """Connection to the running mom. Each call raises `MomError` if mom does not answer, and `NotRunning` if no mom is running."""

    @property
    def where(self) -> str:
        """Return a name for people, such as a socket's path."""

    def report(self) -> ReportDocument:
        """Return the newest cycle in the status file's form."""

    def explanation(self, guest: str) -> Mapping[str, Any]:
        """Return the explanation of the guest with this id or name."""

    def configuration(self) -> Mapping[str, Any]:
        """Return the settings in force, with secrets masked."""

    def policies(self) -> Mapping[str, PolicyText]:
        """Return the policies in force, keyed by name."""
