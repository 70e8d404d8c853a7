"""A recording as mom's own verbs look at it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mom_core import PastCycle
from mom_plugins_sim.recording.reader import Recording
from mom_plugins_sim.recording.writer import begun


class PastOf:
    """A folder with a recording, or one file of it. Raises `MomError` when there is none."""

    def __init__(self, path: Path) -> None:
        self._recording = Recording(path)
        self._files = tuple(self._recording.files)

    @property
    def where(self) -> str:
        """The folder or file."""
        return str(self._recording.path)

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """The cycles of that time. Files that ended before it are not opened. Raises `MomError`."""
        files = list(self._files)
        moment = datetime.fromtimestamp(max(since, 0.0), UTC) if since < float("inf") else datetime.max.replace(tzinfo=UTC)
        while len(files) > 1 and (start := begun(files[1])) is not None and start <= moment:
            del files[0]
        self._recording.files = files
        for recorded in self._recording.cycles(since, until):
            yield PastCycle(recorded.report, recorded.session.policies, recorded.gap)
