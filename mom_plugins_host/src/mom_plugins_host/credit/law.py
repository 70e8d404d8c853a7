"""How far each guest may grow: pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

LEAST_KIB: Final = 16 << 10
"""Growth that mom expects of every guest, so that a guest at rest can start a program."""

ORDINARY_PRIORITY: Final = 50.0
"""Priority of a guest without a service class."""

_PRIORITY_BASE: Final = 10.0
"""Added to priorities of 0 to 100, so that every guest gets an allowance."""

_SLIP: Final = 0.0125
"""A group exceeds its limit by this share without delay, because the kernel skips delays of less than 10 ms."""

_SLIP_KIB: Final = 24.0
"""mom expects an excess of `x` times the limit, where x^3 is `_SLIP`^3 + 24 KiB / limit. The kernel delays a thread by 64 s * x^2 for each
256 KiB. So x^3 grows by 12 KiB / limit each second. 24 KiB allow mom to be two seconds late."""

_STOP: Final = 0.2
"""Largest excess that mom expects, as a share of the limit. From 18 % above the limit on, the kernel's delay is longest: 2 s for
each 64 pages."""


@dataclass(frozen=True, slots=True)
class Borrower:
    """Guest that grows on credit. Units are KiB and seconds.

    :param held: memory that the guest's control group holds
    :param promised: memory that the guest may always hold, including QEMU's own memory; 0: no promise
    :param most: maximum memory that the guest can hold, including QEMU's own memory
    :param priority: of the guest's service class, 0 to 100
    :param held_before: memory that the guest held in the last cycle
    :param burst: expected growth within a cycle, estimated from earlier growth
    :param limit: present limit; None: no limit
    :param slowed: how often the limit has slowed the guest down
    :param waits: whether the guest wants more memory than its limit
    :param delay: time for which the guest has waited since the last cycle
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
        """Promised memory that the guest does not hold yet."""
        return max(0, self.promised - self.held)

    @property
    def weight(self) -> float:
        """Weight of the guest when mom divides available memory among guests."""
        return max(self.burst, LEAST_KIB) * (_PRIORITY_BASE + self.priority)


def credit(available: float, reserve: float, guests: Mapping[str, Borrower], *, slips: bool = False) -> dict[str, int]:
    """Return the limit of each guest in KiB: the memory that the guest holds, plus its allowance.

    Promised memory comes first, then likely growth. All allowances together exceed `available - reserve` only if more is promised. More
    available memory never lowers a limit. Unless `slips`, memory that a guest holds beyond its present limit does not count as held.

    :param available: the host's available memory in KiB
    :param reserve: part of the available memory that is for the host itself, in KiB
    :param slips: guests can exceed their limits, because the kernel only delays them and cannot reclaim their memory. Limits are
        then a little lower, and still lower when less than twice the reserve is available.
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
