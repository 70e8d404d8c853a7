"""How far each guest may grow. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LEAST_KIB: Final = 16 << 10
"""Growth that every guest is expected to want, so that a guest at rest can start a program. An idle Linux guest grows less in a second."""

ORDINARY_PRIORITY: Final = 50.0
"""Of a guest without a service class."""

_PRIORITY_BASE: Final = 10.0
"""Added to priorities of 0 to 100: the highest priority gets eleven times the allowance of the lowest, and nobody gets none."""

_SLIP: Final = 0.0125
"""Share of its limit by which a group grows beyond it unhindered: the kernel leaves out delays of less than 10 ms."""

_SLIP_KIB: Final = 24.0
"""Then it slows down. For 256 KiB at `x` times its limit too much, the kernel delays a thread by 64 s * x^2. So x^3 grows by 12 KiB / limit
each second. Limits leave room for two seconds, in which mom may be late."""

_STOP: Final = 0.2
"""The same where the kernel delays a group for as long as it can: 2 s for each 64 pages, from 18 % above the limit on."""


@dataclass(frozen=True, slots=True)
class Borrower:
    """Guest that grows on credit. KiB and seconds.

    :param held: memory that its control group holds
    :param promised: memory that it may always hold, including QEMU's own; 0: no promise
    :param most: memory that it can hold, including QEMU's own
    :param priority: 0 to 100, of its service class
    :param held_before: memory that it held in the last cycle
    :param burst: growth that it was seen to make at once
    :param limit: present one; None: no limit
    :param slowed: how often the limit has slowed it down
    :param waits: whether it wants more than its limit
    :param delay: time in which it has waited since the last cycle
    """

    held: int
    promised: int = 0
    most: float = math.inf
    priority: float = ORDINARY_PRIORITY
    held_before: int = 0
    burst: float = 0.0
    limit: int | None = None
    slowed: int = 0
    waits: bool = False
    delay: float = 0.0

    @property
    def owed(self) -> int:
        """Memory that it lacks of its promise."""
        return max(0, self.promised - self.held)

    @property
    def weight(self) -> float:
        """Share of the allowances, relative to other guests."""
        return max(self.burst, LEAST_KIB) * (_PRIORITY_BASE + self.priority)


def credit(available: float, reserve: float, guests: Mapping[str, Borrower], *, slips: bool = False) -> dict[str, int]:
    """Return the limit of each guest in KiB: memory that it holds, and its allowance.

    Promises come first, then likely growth. Together, the allowances do not exceed `available - reserve`, unless more is promised. More
    available memory lowers no limit. What a guest holds beyond its limit is no reason to raise it.

    :param available: the host's available memory in KiB
    :param reserve: KiB of it for the host itself
    :param slips: guests grow beyond their limits, because the kernel can reclaim nothing of them and only delays them. Limits are lower
        then: a little at first, and more below twice the reserve. At the reserve, the kernel's delays are the longest
    """
    owed = sum(guest.owed for guest in guests.values())
    shared = max(0.0, available - reserve - owed)
    total = sum(guest.weight for guest in guests.values())
    shortage = min(1.0, max(0.0, 2.0 - available / reserve)) if reserve else 0.0

    def limit(guest: Borrower) -> float:
        base = guest.held if slips or guest.limit is None else min(guest.held, guest.limit)
        limit = base + guest.owed + shared * (guest.weight / total)
        if not slips:
            return limit
        slip = math.cbrt(_SLIP**3 + _SLIP_KIB / max(1.0, limit))
        return limit / (1.0 + min(_STOP, slip + (_STOP - slip) * shortage**2))

    return {name: max(guest.promised, int(limit(guest))) for name, guest in guests.items()}
