"""Admission: a plugin that knows promises tells programs that start guests whether another guest fits.

It knows classes, promises and guests; the asking side, such as a scheduler, knows none of them.
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
    """Answer whether guests fit, and why. Sizes in KiB.

    `fits` is the number of such guests that would fit now, up to 10,000; `guarantee_kib` is the promise to each. `reasons` are sentences
    for an operator, objections first. `donors` would have to give: for a yes, memory beyond their needs and promises; for a no for want of
    promises, guarantees of less important guests, which the operator would have to withdraw.
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
    """Judge of whether guests fit. For any thread."""

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        """Say whether `count` more guests of this memory and class fit without breaking a promise, as of the last cycle.

        Asking keeps no memory for them, unlike `Reservations`; reserved memory counts as used. Raises `MomError` for an unknown class,
        invalid numbers, and while the host is unknown.

        :param sla_class: empty: the default class of guests
        """


class ClassFiles(Protocol):
    """Reader of service classes from a file that may change at any time. For any thread; does not wait."""

    def why_unused(self, path: Path) -> str:
        """Return why that file's classes are not in force, at the last look; empty: they are."""
