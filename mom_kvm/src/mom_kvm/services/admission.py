"""Services of the plugin that knows the service classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mom_core import Entity


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether `count` new guests fit, and why. Sizes in KiB.

    `fits` is the number that fits, capped at 10,000. `donors` would give up memory that they do not need, or parts of their guarantees.
    """

    @dataclass(frozen=True, slots=True)
    class Donor:
        """Guest that would have to give up memory. If `promise`, the memory is a part of its guarantee."""

        guest: Entity
        kib: int
        promise: bool = False

    admitted: bool
    count: int
    fits: int
    memory_kib: int
    sla_class: str
    guarantee_kib: int
    reasons: Sequence[str] = ()
    donors: Sequence[Admission.Donor] = ()


class Admissions(Protocol):
    """Service that decides whether new guests fit. Thread-safe."""

    def admission(self, memory_kib: int, sla_class: str = "", count: int = 1) -> Admission:
        """Return whether `count` more guests fit without breaking a promise.

        :raises MomError: the class is unknown, a number is invalid, or mom has not looked at the host lately
        """

    def why_unused(self, path: Path) -> str:
        """Return why the service classes in a file are not in force; empty if they are. Return without waiting."""
