"""Recordings of a host, and forecasts learned from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mom_core import Report, Value


@dataclass(frozen=True, slots=True)
class PastCycle:
    """Recorded report, and the policies' texts, keyed by name."""

    report: Report
    policies: Mapping[str, str]


class PastCycles(Protocol):
    """Recording. Methods raise `MomError` for unreadable data."""

    @property
    def where(self) -> str:
        """Name for people, such as its folder."""

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """Yield the cycles between two times (seconds since the epoch), in recorded order."""


# --- points of past days, for programs that draw them ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """Part of a host's time, or a recorded cycle of one guest. Unknown values are absent.

    `time` is the middle of this part. Sums over all guests are `guests.FIELD`.
    """

    time: float
    seconds: float = 0.0
    least: Mapping[str, float] = field(default_factory=dict)
    mean: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    guest: Mapping[str, Value] | None = None


class RecordedPoints(Protocol):
    """Reads this host's recording."""

    def recorded_points(
        self, since: float, until: float, most: int, *, guest: str = "", guest_fields: Sequence[str] = ()
    ) -> Sequence[RecordedPoint]:
        """Return evenly spaced points in order of time. Raises `MomError` if unreadable.

        Takes seconds: call it from a thread of its own. Times are in seconds since the epoch.

        :param guest: a guest's id; empty for only the host
        """


class Forecasts(Protocol):
    """Expected memory use of all guests together. Thread-safe; does not wait."""

    def rise_expected(self, seconds: float) -> int:
        """Return the expected growth of all guests' use within `seconds`, in KiB; 0 if unknown."""
