"""A recording as mom's own verbs look at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mom_plugins_record.recording.reader import Recording
from mom_toolkit import PastCycle


class PastOf:
    """A folder with a recording, or one file of it. Raises `MomError` when there is none."""

    def __init__(self, path: Path) -> None:
        self._recording = Recording(path)

    @property
    def where(self) -> str:
        """The folder or file."""
        return str(self._recording.path)

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """The cycles of that time. Files that ended before it are not opened. Raises `MomError`."""
        for one in self._recording.cycles(since, until):
            yield PastCycle(one.report, one.session.policies, one.cycle.reasons)
