"""Keeps each cycle for some days, and one a minute for longer: both are written at the time, so that nothing has to be rewritten later.

A recording that is thinned afterwards is read and compressed again, a day at a time, beside a mom that has guests to watch, and must
not be lost when the disk is full or the host crashes meanwhile. A second recorder of every twelfth cycle costs less, and each of the two
is as safe as one alone. Where both have a time, readers take the one with all cycles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mom_core import Report, Value
from mom_plugins_record.recording.cycles import Reasons
from mom_plugins_record.recording.session import RecordedSession
from mom_plugins_record.recording.writer import MINUTES, RecordingLimits, RecordingWriter

EVERY: Final = 60.0
"""Seconds from one kept cycle to the next. Balloons and KSM take minutes to get where policies want them, so that a line through these
is the line through all; and of a cycle every five seconds, 30 days take what two and a half did. What is decided and undone within a
minute is in `mom report`'s accounts, which count each cycle."""

SHARE: Final = 2
"""Into how many equal parts the allowed size is divided: half of 1 GiB is
each cycle of 100 guests for 12 days, or one a minute for months."""


class MinutesWriter:
    """`RecordingWriter` for each cycle, and another one in a folder of its own for one a minute.

    :param full: seconds for which each cycle is kept; as long as all, or longer: there is nothing to thin
    """

    def __init__(
        self,
        folder: Path,
        limits: RecordingLimits,
        full: float,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._minute = float("-inf")
        if full >= limits.keep:
            self._writers: Sequence[RecordingWriter] = (RecordingWriter(folder, limits, wall, monotonic),)
            return
        part = replace(limits, size=limits.size // SHARE)
        self._writers = (
            RecordingWriter(folder, replace(part, keep=full), wall, monotonic),
            RecordingWriter(folder / MINUTES, part, wall, monotonic),
        )

    @property
    def written(self) -> int:
        """Bytes, since this was made."""
        return sum(writer.written for writer in self._writers)

    def open(self) -> None:
        """Make the folders. Raises `RecordingFull` when that cannot be."""
        for writer in self._writers:
            writer.open()

    def session(self, session: RecordedSession) -> None:
        """From now on, this is so."""
        for writer, every in zip(self._writers, (0.0, EVERY), strict=False):
            writer.session(replace(session, every=every))

    def cycle(self, report: Report, memory: Callable[[], Value] | None = None, reasons: Reasons | None = None) -> None:
        """Append a cycle. Raises `RecordingFull`."""
        self._writers[0].cycle(report, memory, reasons)
        minute = report.snapshot.monotonic // EVERY
        if minute != self._minute:
            for writer in self._writers[1:]:
                writer.cycle(report, None, reasons)
            self._minute = minute

    def close(self) -> None:
        """Let the files and the folders go."""
        for writer in self._writers:
            writer.close()
