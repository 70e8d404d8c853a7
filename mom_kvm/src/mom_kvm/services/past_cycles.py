"""Recordings of a host: cycles for verbs that look at them, and points of past days for charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mom_core import Report, Value


@dataclass(frozen=True, slots=True)
class PastCycle:
    """Report of a recorded cycle, and the texts of the policies in force by name."""

    report: Report
    policies: Mapping[str, str]


class PastCycles(Protocol):
    """A recording. Raises `MomError` where it cannot be read."""

    @property
    def where(self) -> str:
        """How people name it, such as its folder."""

    def cycles(self, since: float, until: float) -> Iterator[PastCycle]:
        """Return all cycles of that time (seconds since the epoch), in the order of recording."""


# --- points of past days, for those that draw them ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """Some time of a host, or a recorded cycle of one guest; what was unknown is left out.

    `time` is its middle, and `seconds` how long it was. The least, average and most are of the host's fields, and of sums over all guests,
    which are called `guests.` and the field. `guest` are a guest's fields; None: it was not there, or not asked for.
    """

    time: float
    seconds: float = 0.0
    least: Mapping[str, float] = field(default_factory=dict)
    mean: Mapping[str, float] = field(default_factory=dict)
    most: Mapping[str, float] = field(default_factory=dict)
    guest: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class PointsAsked:
    """Which points: of which time (seconds since the epoch), and how many at most.

    `guest` is the id of the guest whose fields are wanted; empty: the host is.
    """

    since: float
    until: float
    most: int
    guest: str = ""
    guest_fields: Sequence[str] = ()


class RecordedPoints(Protocol):
    """Reads what was recorded of this host."""

    def recorded_points(self, asked: PointsAsked) -> Sequence[RecordedPoint]:
        """Return points in order of time, evenly spaced: some cycles of a guest, or the host's whole time. Takes seconds:
        call it from a thread that nobody waits for. Raises `MomError`."""
