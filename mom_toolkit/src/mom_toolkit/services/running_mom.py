"""What verbs look at besides the host itself: the mom that runs, and what was recorded of it. Plugins offer the ways to both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mom_core import MomError, Report

if TYPE_CHECKING:
    from mom_toolkit.report_models import ReportDocument
    from mom_toolkit.services.policies import PolicyText


class NoSuchGuest(MomError):
    """There is no guest of that name or id; the hint names those that may be meant."""


class NotRunning(MomError):
    """No mom is there to be asked."""


class RunningMom(Protocol):
    """A way to ask a mom that runs. Each call raises `MomError` when it does not answer, and `NotRunning` when none is there."""

    @property
    def where(self) -> str:
        """How people name the way, such as the path of a socket."""
        ...

    def report(self) -> ReportDocument:
        """All of the newest cycle, in the form of the status file."""
        ...

    def explanation(self, guest: str) -> Mapping[str, Any]:
        """Why the guest of this id or name is as it is, as `Explanation.as_json` gives it."""
        ...

    def configuration(self) -> Mapping[str, Any]:
        """The settings in force, with secrets masked."""
        ...

    def policies(self) -> Mapping[str, PolicyText]:
        """The policies in force, by name."""
        ...


@dataclass(frozen=True, slots=True)
class PastCycle:
    """A recorded cycle: its report, the texts of the policies in force by name, and how many cycles before it were lost.

    `every`: the recorded cycles are so many seconds apart, as not each one was kept; 0: each was. `reasons`: why policies decided so, by
    control a text for each guest in their order; None: not recorded.
    """

    report: Report
    policies: Mapping[str, str]
    lost: int = 0
    every: float = 0.0
    reasons: Mapping[str, Sequence[str | None]] | None = None

    def reasons_of(self, guest: str) -> Mapping[str, str] | None:
        """Why the guest with this id got these controls, or did not: in words for a person, without a full stop. A control that is
        missing: nothing is known of it. None: not recorded."""
        if self.reasons is None or guest not in self.report.snapshot.guests:
            return None
        place = list(self.report.snapshot.guests).index(guest)
        found = {control: text for control, texts in self.reasons.items() if (text := texts[place]) is not None}
        return found if len(found) == len(self.reasons) else None


class PastCycles(Protocol):
    """A recording. Raises `MomError` where it cannot be read."""

    @property
    def where(self) -> str:
        """How people name it, such as its folder."""
        ...

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """All cycles of that time (seconds since the epoch), in the order in which they were recorded."""
        ...
