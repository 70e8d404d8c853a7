"""How far each guest may grow while the host is short of memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LEAST_KIB: Final = 16 << 10
"""Growth that every guest is expected to want, so that a guest at rest can start a program. An idle Linux guest grows less in a second."""

ORDINARY_PRIORITY: Final = 50.0
"""Of a guest without a service class."""

_PRIORITY_BASE: Final = 10.0
"""Added to priorities of 0 to 100: the highest priority gets eleven times the allowance of the lowest, and nobody gets none."""


@dataclass(frozen=True, slots=True)
class Borrower:
    """Guest that grows on credit. KiB.

    :param held: memory that its control group holds
    :param promised: memory that it may always hold, including QEMU's own; 0: no promise
    :param burst: growth that it was seen to make at once
    :param priority: 0 to 100, of its service class
    """

    held: int
    promised: int = 0
    burst: float = 0.0
    priority: float = ORDINARY_PRIORITY

    @property
    def owed(self) -> int:
        """Memory that it lacks of its promise."""
        return max(0, self.promised - self.held)

    @property
    def weight(self) -> float:
        """Share of the allowances, relative to other guests."""
        return max(self.burst, LEAST_KIB) * (_PRIORITY_BASE + self.priority)


def credit(available: float, reserve: float, guests: Mapping[str, Borrower]) -> dict[str, int]:
    """Return the limit of each guest in KiB: memory that it holds, and its allowance.

    Promises come first, then likely growth. Together, the allowances do not exceed `available - reserve`, unless more is promised. More
    available memory lowers no limit.

    :param available: the host's available memory in KiB
    :param reserve: KiB of it for the host itself
    """
    owed = sum(guest.owed for guest in guests.values())
    shared = max(0.0, available - reserve - owed)
    total = sum(guest.weight for guest in guests.values())
    return {name: guest.held + guest.owed + int(shared * (guest.weight / total)) for name, guest in guests.items()}
