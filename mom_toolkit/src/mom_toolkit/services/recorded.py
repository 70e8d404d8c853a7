"""What a recorder keeps for longer than the mom that runs remembers: points of past days, for those that draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mom_core import Value


@dataclass(frozen=True, slots=True)
class RecordedPoint:
    """A recorded cycle, with the fields that were asked for; what was unknown is left out.

    `together` are sums over all guests that had the field. `guest` are those of one guest; None: it was not there, or not asked for.
    """

    number: int
    time: float
    duration: float
    host: Mapping[str, Value]
    together: Mapping[str, float]
    guest: Mapping[str, Value] | None


@dataclass(frozen=True, slots=True)
class PointsAsked:
    """Which points: of which time (seconds since the epoch), how many at most, and which fields.

    `guest` is the id of the guest whose fields are wanted; empty: of none.
    """

    since: float
    until: float
    most: int
    host: Sequence[str]
    together: Sequence[str]
    guest: str = ""
    guest_fields: Sequence[str] = ()


@runtime_checkable
class RecordedPoints(Protocol):
    """Reads what was recorded of this host."""

    def recorded_points(self, asked: PointsAsked) -> Sequence[RecordedPoint]:
        """Points in the order of time, about as far apart as each other. Takes seconds, in a process of its own: call it from a thread for
        which no other waits. Raises `MomError`."""
