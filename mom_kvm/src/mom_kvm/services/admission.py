"""Admission: a plugin that knows promises tells programs that start guests whether another guest fits.

Who answers knows classes, promises and guests; who asks (a control socket, a scheduler) knows neither. Both know only this. And what
the plugin that knows classes says of a file of them, which many hosts share, to the plugin that brings it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mom_core import Entity


@dataclass(frozen=True, slots=True)
class Donor:
    """Guest that would have to give `kib` of its memory, or of its guarantee if `promise`."""

    guest: Entity
    kib: int
    promise: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer whether guests fit, and why. Sizes in KiB.

    `fits` is how many of those guests there could be now, counted up to 10,000; `guarantee_kib` is what each is promised.
    `reasons` are sentences for an operator, those against it first. `donors` are the guests that would have to give for it: when the
    answer is yes, memory that they have and neither need nor are promised; when it is no for want of promises, what less important
    guests are promised, which the operator would have to take back.
    """

    admitted: bool
    count: int
    fits: int
    memory_kib: int
    sla_class: str
    guarantee_kib: int
    reasons: Sequence[str] = ()
    donors: Sequence[Donor] = ()


class Admissions(Protocol):
    """Who knows whether guests fit. Any thread may call this."""

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        """Say whether `count` more guests of so much memory and of this class fit without breaking a promise, by the last cycle.

        Nothing is kept for them by asking: that is what `Reservations` is for, and what is reserved counts here.
        Raises `MomError` for a class that does not exist, for what makes no sense, and while nothing is known of the host.

        :param sla_class: empty: the default class of guests
        """


class ClassFiles(Protocol):
    """A reader of service classes from a file that may change at any time. Any thread may call this; wait for nothing."""

    def why_unused(self, path: Path) -> str:
        """Return why the classes of that file are not in force, by the last look at it; empty: they are."""
