"""A recording as mom's own verbs look at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from mom_core import Report
from mom_plugins_record.recording.reader import (
    USUAL_HISTORY,
    USUAL_INTERVAL,
    Recorded,
    Recording,
    ending_after,
    follows,
    history_of,
    must_fit,
)
from mom_plugins_record.recording.writer import KEY_EVERY
from mom_toolkit import PastCycle

LONGEST_INTERVAL: Final = 3600.0
"""Seconds between cycles, as mom's settings have it; a recording that says more is wrong."""

LEEWAY: Final = 2
"""Times as much as so many cycles should have taken is read to have them: they may have come late."""


class PastOf:
    """A folder with a recording, or one file of it. Raises `MomError` when there is none."""

    def __init__(self, path: Path) -> None:
        self._recording = Recording(path)
        self._files = tuple(self._recording.files)
        self._minutes = tuple(self._recording.minutes)

    @property
    def where(self) -> str:
        """The folder or file."""
        return str(self._recording.path)

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """The cycles of that time. Files that ended before it are not opened. Raises `MomError`."""
        for recorded in self._read(since, until):
            yield PastCycle(recorded.report, recorded.session.policies, recorded.gap, recorded.session.every)

    def reasons(self, cycle: PastCycle, guest: str, controls: Sequence[str]) -> Mapping[str, str]:
        """Why the guest got these controls in that cycle, or did not: as it was recorded, or else its policies are evaluated again. Raises
        `MomError`.
        """
        recorded = self._recorded_reasons(cycle.report, guest)
        if recorded is not None:
            return {control: recorded.get(control, "") for control in controls}
        from mom_plugins_record.replay.reasons import reasons_of

        run = self._until(cycle.report, USUAL_HISTORY)
        if run and (history := history_of(run[-1].session)) > USUAL_HISTORY:
            run = self._until(cycle.report, history)
        return reasons_of(run, guest, controls)

    def _recorded_reasons(self, report: Report, guest: str) -> Mapping[str, str] | None:
        self._leave_out_files_before(report.time)
        for record, _ in self._recording.records(report.time, report.time):
            if record.content.get("cycle") == report.number:
                return record.reasons(guest)
        return None

    def _until(self, report: Report, history: int) -> Sequence[Recorded]:
        """The cycle with this report, after those without which it cannot be evaluated again: as far as nothing is missing between them."""
        interval = report.snapshot.host.properties.get("interval")
        seconds = interval if isinstance(interval, int | float) and 0 < interval <= LONGEST_INTERVAL else USUAL_INTERVAL
        needed = KEY_EVERY + history + 1
        run: deque[Recorded] = deque(maxlen=needed)
        for recorded in self._read(report.time - LEEWAY * needed * seconds, report.time):
            if run and not follows(run[-1], recorded):
                run.clear()
            must_fit(recorded, needed)
            run.append(recorded)
            if (recorded.report.number, recorded.report.time) == (report.number, report.time):
                return tuple(run)
        return ()

    def _read(self, since: float, until: float) -> Iterator[Recorded]:
        self._leave_out_files_before(since)
        yield from self._recording.cycles(since, until)

    def _leave_out_files_before(self, since: float) -> None:
        # The file before that time has the first cycle of each, by which those of the minutes are left out.
        self._recording.files = list(ending_after(self._files, since))
        self._recording.minutes = list(ending_after(self._minutes, since))
