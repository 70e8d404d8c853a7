"""Services that read recordings of a host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mom_core import Report, Value


@dataclass(frozen=True, slots=True)
class PastCycle:
    """Recorded cycle: its report, and its policies' texts keyed by name."""

    report: Report
    policies: Mapping[str, str]


class PastCycles(Protocol):
    """Reader of a recording. Methods raise `MomError` if the recording is unreadable."""

    @property
    def where(self) -> str:
        """Name of the recording for messages, such as its folder."""

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """Yield the cycles between two times (seconds since the epoch), in recorded order."""


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """Values of a host over a span of time, or of one guest in a recorded cycle. Unknown values are missing.

    `time` is the middle of the span. The key `guests.FIELD` is for the sum of a field over all guests.
    """

    time: float
    seconds: float = 0.0
    least: Mapping[str, float] = field(default_factory=dict)
    mean: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    guest: Mapping[str, Value] | None = None


class RecordedPoints(Protocol):
    """Reader of this host's recording, for programs that draw it."""

    def recorded_points(
        self, since: float, until: float, most: int, *, guest: str = "", guest_fields: Sequence[str] = ()
    ) -> Sequence[RecordedPoint]:
        """Return evenly spaced points in order of time. Raise `MomError` if the recording is unreadable.

        The call takes seconds, so make it in a separate thread. Times are in seconds since the epoch.

        :param most: maximum number of points
        :param guest: ID of a guest; empty for the host
        """
