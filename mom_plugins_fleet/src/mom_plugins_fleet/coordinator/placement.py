"""Sorting of guests that leave, and choice of their destinations: pure functions. Sizes in KiB."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from mom_core import format_kib
from mom_kvm import Destination
from mom_plugins_fleet.records import MOST_TOLD, HostedGuest

RESERVE_SHARE: Final = 0.10
RESERVE_MOST_KIB: Final = 16 << 20
"""Memory that stays available on a host that takes guests. A guest takes its memory within a minute; the host's mom needs longer to
reclaim more."""

SMALLEST: Final = 100
"""Smallest guests among those that a host lists: they can go where no host has room for the largest."""


@dataclass(frozen=True, slots=True)
class TargetHost:
    """Host that can take guests.

    :param coming: memory of the guests on their way to it
    :param arriving: source of each guest that moves to it now
    :param promised: memory promised to its guests
    :param within: the hosts between which its mover moves guests; empty: any
    :param limit: its memory according to the operator; None: its own figure counts
    :param arrived: memory of the guests that came in the last day
    :param works: the working sets of its guests; None: unknown
    :param promisable: memory that it can promise to guests; None: all
    """

    name: str
    group: str
    total: int
    available: int
    coming: int = 0
    arriving: tuple[str, ...] = ()
    promised: int = 0
    within: str = ""
    limit: int | None = None
    arrived: int = 0
    works: int | None = None
    promisable: int | None = None
    address: Destination = Destination.ANYWHERE

    @property
    def has(self) -> int:
        """Return its memory, within the operator's limit."""
        return self.total if self.limit is None else min(self.total, self.limit)

    @property
    def unpromised(self) -> int:
        """Return the memory that it can still promise; may be negative."""
        return (self.has if self.promisable is None else min(self.has, self.promisable)) - self.promised

    @property
    def room(self) -> int:
        """Return the room for more guests; may be negative. The operator's limit bounds all arrivals, whatever the host reports."""
        believed = self.available if self.limit is None else min(self.available, self.limit - self.arrived)
        return believed - self.coming - min(RESERVE_MOST_KIB, int(RESERVE_SHARE * self.has))


def rank(places: Iterable[TargetHost], group: str, within: str = "") -> list[TargetHost]:
    """Return the reachable hosts of a group, the most room first.

    :param within: the reach of the guests' mover; empty: all hosts
    """
    reachable = (place for place in places if place.group == group and within in ("", place.within))
    return sorted(reachable, key=lambda place: (place.room, place.name), reverse=True)


def choose(
    needs: int, guarantee: int, ranked: Iterable[TargetHost], group: str, avoid: Collection[str] = (), within: str = ""
) -> TargetHost | str:
    """Return the host with the most room that can keep the guest's promise; or why there is none.

    Fuller hosts that suffice are the next to squeeze guests.

    :param needs: memory that the guest needs on arrival
    :param ranked: hosts as `rank` returns them
    :param avoid: hosts where an attempt failed
    """
    available = False
    for place in ranked:
        if place.name in avoid:
            continue
        available = True
        if guarantee <= place.unpromised:
            if place.room >= needs:
                return place
            room = format_kib(max(0, place.room))
            return f"it needs {format_kib(needs)}, and {place.name}, with the most room in the group {group}, has {room}"
    if available:
        return f"no host of the group {group} could keep its promise of {format_kib(guarantee)}"
    if within:
        return f"its mover moves guests within {within} only, where no other host can take guests now"
    return f"no other host of the group {group} can take guests now"


def listed(guests: Iterable[HostedGuest]) -> tuple[HostedGuest, ...]:
    """Return the guests to list in a report: the first to leave, and the smallest."""
    ordered = sorted(guests, key=leaving_order)
    if len(ordered) <= MOST_TOLD:
        return tuple(ordered)
    first, later = ordered[: MOST_TOLD - SMALLEST], [guest for guest in ordered[MOST_TOLD - SMALLEST :] if not guest.stays]
    return (*first, *later[-SMALLEST:])


def leaving_order(guest: HostedGuest) -> tuple[bool, int, str]:
    """Sort large guests first, which fit on the fewest hosts, and those that cannot leave last."""
    return bool(guest.stays), -(guest.maximum or 0), guest.id
