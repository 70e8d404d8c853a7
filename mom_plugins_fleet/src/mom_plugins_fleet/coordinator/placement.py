"""Order in which guests leave, and choice of destinations. Sizes in KiB."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from mom_core import format_kib
from mom_kvm import Destination
from mom_plugins_fleet.records import MOST_TOLD, HostedGuest

RESERVE_SHARE: Final = 0.10
RESERVE_MOST_KIB: Final = 16 << 20
"""Memory to keep free on a destination, because a new guest may fill its memory faster than mom reclaims."""


@dataclass(frozen=True, slots=True)
class TargetHost:
    """Host that can take guests.

    :param coming: memory of incoming guests
    :param within: name of the cluster that the host's mover is limited to; empty if there is no limit
    :param works: sum of the guests' working sets; None if unknown
    :param promisable: memory that the host can promise; None for all of its memory
    """

    name: str
    group: str
    total: int
    available: int
    coming: int = 0
    arriving: tuple[str, ...] = ()
    promised: int = 0
    within: str = ""
    works: int | None = None
    promisable: int | None = None
    address: Destination = Destination.ANYWHERE

    @property
    def unpromised(self) -> int:
        """Memory that the host can still promise; may be negative."""
        return (self.total if self.promisable is None else min(self.total, self.promisable)) - self.promised

    @property
    def room(self) -> int:
        """Room for more guests; may be negative."""
        return self.available - self.coming - min(RESERVE_MOST_KIB, int(RESERVE_SHARE * self.total))


def rank(places: Iterable[TargetHost], group: str, within: str = "") -> list[TargetHost]:
    """Return a group's hosts, most room first. `within` limits them to a cluster."""
    reachable = (place for place in places if place.group == group and within in ("", place.within))
    return sorted(reachable, key=lambda place: (place.room, place.name), reverse=True)


def choose(
    needs: int, guarantee: int, ranked: Iterable[TargetHost], group: str, avoid: Collection[str] = (), within: str = ""
) -> TargetHost | str:
    """Return the host with the most room that can promise `guarantee` to the guest, or why there is none.

    :param needs: memory that the guest needs on arrival
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
            return f"it needs {format_kib(needs)}, but {place.name}, which has the most room in the group {group}, has only {room}"
    if available:
        return f"no host of the group {group} can promise {format_kib(guarantee)} to the guest"
    if within:
        return f"the host's mover moves guests only within {within}, and no other host there can accept guests now"
    return f"no other host of the group {group} can accept guests now"


def listed(guests: Iterable[HostedGuest]) -> tuple[HostedGuest, ...]:
    """Return the guests that a host reports: those that leave first."""
    return tuple(sorted(guests, key=leaving_order)[:MOST_TOLD])


def leaving_order(guest: HostedGuest) -> tuple[bool, int, str]:
    """Return a sort key: immovable guests last, large guests first."""
    return bool(guest.stays), -(guest.maximum or 0), guest.id
