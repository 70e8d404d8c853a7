"""Records of one cycle that the kinds of changes share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from mom_plugins_balloon.law.context import LawContext
from mom_plugins_balloon.law.offer import Offer
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.law.want import Ask
from mom_plugins_balloon.memory import GuestMemory


class WeighedGuest(NamedTuple):
    """Guest that may get or give memory."""

    place: int
    """Its place among all guests."""
    guest: GuestMemory
    ask: Ask
    offer: Offer
    """Its offer; none if the law spares it because it is expected to use more."""


class SizeChange(NamedTuple):
    """Change of one guest's size, in KiB; 0: none, because nothing is left for it."""

    amount: float
    code: ReasonCode | None = None
    """None: the code of its ask."""
    gain: float | None = None


class Balance(NamedTuple):
    """Memory that guests want and the host lacks, in KiB."""

    urgent: float
    relief: float
    lacks: float
    """Shortage below the high watermark, with the memory that guests want now."""
    demand: float
    """The same, with the memory that guests are expected to take."""
    ahead: float
    """Memory that should be available for the expected growth of guests."""


Changes: TypeAlias = Mapping[int, SizeChange]
"""Changes by the guest's place in the crowd of weighed guests."""

ChangeKind: TypeAlias = Callable[[Sequence[WeighedGuest], Changes, Balance, LawContext], Changes]
"""Function of the guests, the changes of earlier kinds, the balance and the context. Returns its own changes."""


def unbacked_memory(guest: GuestMemory) -> float:
    """Return the memory that a guest could still take from the host: its maximum less the memory that the host backs already.

    Other guests never give for more than that.
    """
    backed, maximum = guest.process.backed, guest.maximum
    return math.inf if backed is None or maximum is None else max(0.0, maximum - backed)


def level_of(parts: Sequence[tuple[float, float]], amount: float) -> float:
    """Return the level that makes all parts give `amount` together.

    Each part gives `part * min(1, level / cost)`, so cheap parts are used up before dear ones.

    :param parts: cost and KiB of each part
    """
    whole = 0.0
    shared = sum(part / cost for cost, part in parts)
    rounding = 1e-9 * shared
    for cost, part in sorted(parts):
        if whole + cost * shared >= amount:
            break
        whole += part
        shared -= part / cost
    return (amount - whole) / shared if shared > rounding else max((cost for cost, _ in parts), default=0.0)
