"""The mom that runs, as verbs ask it. Plugins offer the ways to it (`mom_source`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mom_core import MomError

if TYPE_CHECKING:
    from mom_daemon import ReportDocument
    from mom_kvm import PolicyText


class NoSuchGuest(MomError):
    """There is no guest of that name or id; the hint names those that may be meant."""


class NotRunning(MomError):
    """No mom is there to be asked."""


class RunningMom(Protocol):
    """Way to ask a mom that runs. Each call raises `MomError` when it does not answer, and `NotRunning` when none is there."""

    @property
    def where(self) -> str:
        """Return a name for people, such as the path of a socket."""

    def report(self) -> ReportDocument:
        """Return the newest cycle in the form of the status file."""

    def explanation(self, guest: str) -> Mapping[str, Any]:
        """Return the explanation of a guest by id or name, as `Explainers.explain` gives it."""

    def configuration(self) -> Mapping[str, Any]:
        """Return the settings in force, with secrets masked."""

    def policies(self) -> Mapping[str, PolicyText]:
        """Return the policies in force, by name."""
