"""Which of its guests a host tells the fleet of one by one, and what of the others: a host with 10,000 guests is one small record, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from mom_core import Guest
from mom_plugins_fleet.records import MOST_TOLD, HostedGuest

SMALLEST: Final = 100
"""So many of those that are told of one by one are the smallest that can leave: where no host has room for the largest, they go first, and
the drain goes on."""

ARRIVED_SECONDS: Final = 600.0
"""A guest has arrived for so long: five times as long as the coordinator waits to see it."""


class ToldGuests:
    """All guests of a host that has few; of a host that has many, those that arrived last, or are to leave next.

    :param monotonic: seconds
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._known: frozenset[str] | None = None
        self._arrived: dict[str, float] = {}

    def see(self, guests: Iterable[str]) -> None:
        """The ids of all guests that are here now. What is here at the first look has not arrived."""
        here, now = frozenset(guests), self._monotonic()
        if self._known is not None:
            self._arrived.update(dict.fromkeys(here - self._known, now))
        self._arrived = {one: at for one, at in self._arrived.items() if one in here and now - at < ARRIVED_SECONDS}
        self._known = here

    def choose(self, guests: Mapping[str, Guest], told: Callable[[Guest], HostedGuest], *, draining: bool) -> tuple[HostedGuest, ...]:
        """Those to tell of, in the order in which a drained host is left.

        :param told: makes of a guest what is told
        """
        if draining or len(guests) <= MOST_TOLD:
            ordered = sorted(map(told, guests.values()), key=leaving_order)
            if len(ordered) <= MOST_TOLD:
                return tuple(ordered)
            first, rest = ordered[: MOST_TOLD - SMALLEST], [one for one in ordered[MOST_TOLD - SMALLEST :] if not one.stays]
            return (*first, *rest[-SMALLEST:])
        newest = sorted(self._arrived.items(), key=lambda item: -item[1])[:MOST_TOLD]
        return tuple(told(guests[one]) for one, _ in newest if one in guests)


def leaving_order(guest: HostedGuest) -> tuple[bool, int, str]:
    """The large ones first, which fit in the fewest places; those that cannot leave last."""
    return bool(guest.stays), -(guest.maximum or 0), guest.id
