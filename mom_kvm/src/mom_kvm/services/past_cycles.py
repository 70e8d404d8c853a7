"""Recordings of a host: cycles for verbs, and points of past days for charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mom_core import Report, Value


@dataclass(frozen=True, slots=True)
class PastCycle:
    """Report of a recorded cycle, and the texts of its policies by name."""

    report: Report
    policies: Mapping[str, str]


class PastCycles(Protocol):
    """Recording. Raises `MomError` if unreadable."""

    @property
    def where(self) -> str:
        """Name for people, such as its folder."""

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """Yield the cycles of that time (seconds since the epoch), in the order of recording."""


# --- points of past days, for those that draw them ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """A stretch of a host's time, or a recorded cycle of one guest; unknown values are left out.

    `time` is its middle, and `seconds` its length. `least`, `mean` and `most` are of the host's fields, and of sums over all guests, named
    `guests.` and the field. `guest` are a guest's fields; None: it was absent, or not asked for.
    """

    time: float
    seconds: float = 0.0
    least: Mapping[str, float] = field(default_factory=dict)
    mean: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    guest: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class PointsAsked:
    """Which points: their time (seconds since the epoch), and the most of them.

    `guest` is the id of the guest whose fields are wanted; empty: the host's.
    """

    since: float
    until: float
    most: int
    guest: str = ""
    guest_fields: Sequence[str] = ()


class RecordedPoints(Protocol):
    """Reads this host's recording."""

    def recorded_points(self, asked: PointsAsked) -> Sequence[RecordedPoint]:
        """Return evenly spaced points in order of time: cycles of a guest, or the host's whole time. Raises `MomError`.

        Takes seconds: call it from a thread that nobody waits for.
        """
