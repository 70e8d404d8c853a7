"""What verbs look at besides the host itself and the mom that runs: what was recorded of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mom_core import Report


@dataclass(frozen=True, slots=True)
class PastCycle:
    """A recorded cycle: its report, and the texts of the policies in force by name.

    `reasons`: why policies decided so, by control a text for each guest in their order; None: not recorded.
    """

    report: Report
    policies: Mapping[str, str]
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

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """All cycles of that time (seconds since the epoch), in the order in which they were recorded."""
