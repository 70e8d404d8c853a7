"""Which of its guests a host lists one by one, so that the record of a host with 10,000 guests is small, too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mom_plugins_fleet.records import MOST_TOLD, HostedGuest

SMALLEST: Final = 100
"""So many of those that are listed are the smallest that can leave: where no host has room for the largest, they go first, and the drain
goes on."""


def listed(guests: Iterable[HostedGuest]) -> tuple[HostedGuest, ...]:
    """The first to leave a drained host, in their order, and the smallest."""
    ordered = sorted(guests, key=leaving_order)
    if len(ordered) <= MOST_TOLD:
        return tuple(ordered)
    first, rest = ordered[: MOST_TOLD - SMALLEST], [one for one in ordered[MOST_TOLD - SMALLEST :] if not one.stays]
    return (*first, *rest[-SMALLEST:])


def leaving_order(guest: HostedGuest) -> tuple[bool, int, str]:
    """The large ones first, which fit in the fewest places; those that cannot leave last."""
    return bool(guest.stays), -(guest.maximum or 0), guest.id
