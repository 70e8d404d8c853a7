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
    """One guest that may get or give memory."""

    place: int
    """Its place among all guests."""
    guest: GuestMemory
    ask: Ask
    offer: Offer
    """Its offer, or none where it is left alone because it is expected to use more."""


class SizeChange(NamedTuple):
    """Change of one guest's size, in KiB; 0: none, as nothing is left for it."""

    amount: float
    code: ReasonCode | None = None
    """None: the code of its ask."""
    gain: float | None = None


class Balance(NamedTuple):
    """What guests want and the host lacks, in KiB."""

    urgent: float
    relief: float
    lacks: float
    """Lacking of the high watermark, and of what guests want now."""
    wanted: float
    """The same, with what guests are expected to take."""
    ahead: float
    """To be available for what guests are expected to take."""


Changes: TypeAlias = Mapping[int, SizeChange]
"""Changes of guests that are settled, by their place among those that are weighed."""

ChangeKind: TypeAlias = Callable[[Sequence[WeighedGuest], Changes, Balance, LawContext], Changes]
"""One kind of change: the guests, changes of the kinds before it, and what guests want and the host lacks. Returns its own changes."""


def unbacked_memory(guest: GuestMemory) -> float:
    """Return the memory that a guest could still take from the host: its maximum less what the host backs already.

    Nobody has to give for more than that, whatever the guest wants.
    """
    backed, maximum = guest.process.backed, guest.maximum
    return math.inf if backed is None or maximum is None else max(0.0, maximum - backed)
