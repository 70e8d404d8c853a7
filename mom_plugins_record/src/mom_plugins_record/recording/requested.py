"""Requested part of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PointsAsked:
    """Requested period, in seconds since the epoch. `guest` is a guest's id; empty for only the host."""

    since: float
    until: float
    most: int
    guest: str = ""
    guest_fields: Sequence[str] = ()
