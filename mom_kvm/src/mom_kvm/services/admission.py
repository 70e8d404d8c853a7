"""Service that answers whether another guest fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mom_core import Entity


@dataclass(frozen=True, slots=True)
class Donor:
    """Guest that would have to give up memory, or a part of its guarantee."""

    guest: Entity
    kib: int
    promise: bool = False


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether guests fit, and why. Sizes in KiB.

    `fits` is at most 10,000. `donors` would give up memory beyond their need, or guarantees.
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
    """Decides whether guests fit. Thread-safe."""

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        """Return whether `count` more guests fit without breaking a promise.

        Raises `MomError` for an unknown class, invalid numbers, and while the host is unknown.
        """


class ClassFiles(Protocol):
    """Reader of service classes. Thread-safe; does not wait."""

    def why_unused(self, path: Path) -> str:
        """Return why classes are not in force; empty if they are."""
