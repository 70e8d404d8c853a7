"""Which guests leave first, and where they can go: pure, and the same for all who have the same numbers. Sizes in KiB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mom_kvm import Destination
from mom_plugins_fleet.records import MOST_TOLD, HostedGuest

RESERVE_SHARE: Final = 0.10
RESERVE_MOST_KIB: Final = 16 << 20
"""A host keeps so much of its memory available when guests come to it, and 16 GiB at most. A guest that arrives takes all of its
memory within a minute, and its host's own mom needs some time to make more."""

SMALLEST: Final = 100
"""So many of those that are listed are the smallest that can leave: where no host has room for the largest, they go first, and the drain
goes on."""


@dataclass(frozen=True, slots=True)
class TargetHost:
    """A host that guests may come to: its memory, what is available, what is on its way to it, and what was promised to its guests.

    :param arriving: of each guest that is being moved to it now, the host that it leaves
    :param within: the hosts between which its mover moves guests; empty: any
    :param said: what the operator says that it has; None: its own word counts
    :param arrived: what came to it in the last day by the fleet's own books
    :param address: where guests are sent
    :param works: what its guests work on; None: not of all of them that is known
    :param promisable: what of its memory it can promise to guests; None: it does not say, and all of it counts
    """

    name: str
    group: str
    total: int
    available: int
    coming: int = 0
    arriving: tuple[str, ...] = ()
    promised: int = 0
    within: str = ""
    said: int | None = None
    arrived: int = 0
    works: int | None = None
    promisable: int | None = None
    address: Destination = Destination.ANYWHERE

    @property
    def has(self) -> int:
        """Its memory, as far as it is believed."""
        return self.total if self.said is None else min(self.total, self.said)

    @property
    def unpromised(self) -> int:
        """What it can still promise; may be negative."""
        return (self.has if self.promisable is None else min(self.has, self.promisable)) - self.promised

    @property
    def room(self) -> int:
        """Room for guests that come; may be negative. What the operator says bounds what came and what is to come, whatever the host
        tells of itself and of the guests that came."""
        believed = self.available if self.said is None else min(self.available, self.said - self.arrived)
        return believed - self.coming - min(RESERVE_MOST_KIB, int(RESERVE_SHARE * self.has))


def foremost(places: Iterable[TargetHost], group: str, within: str = "") -> dict[str, TargetHost]:
    """Of all places, those of which `choose` takes one whatever the guest: no other of the group has more room and can promise as much.

    They are few, also of 10,000 hosts: a host's 400 guests that find no room are known to in a moment.
    """
    found: dict[str, TargetHost] = {}
    most = float("-inf")
    same = (one for one in places if one.group == group and within in ("", one.within))
    for place in sorted(same, key=lambda one: (one.room, one.name), reverse=True):
        if place.unpromised > most:
            found[place.name] = place
            most = place.unpromised
    return found


def choose(
    needs: int, guarantee: int, places: Mapping[str, TargetHost], group: str, avoid: frozenset[str] = frozenset(), within: str = ""
) -> TargetHost | str:
    """The host that has the most room left when the guest has come; or why there is none.

    The most room, not the least that is enough: hosts that are filled to the brim are those that must squeeze guests next.

    :param needs: memory that must be there for the guest
    :param guarantee: what of it is promised to it, or 0
    :param group: only hosts of this group run the guest under the same promises
    :param avoid: hosts where it did not work before
    :param within: only between these hosts its mover moves it; empty: between any
    """
    same = [place for place in places.values() if place.group == group and place.name not in avoid]
    if not same:
        return f"no other host of the group {group} can take guests now"
    same = [place for place in same if within in ("", place.within)]
    if not same:
        return f"its mover moves guests within {within} only, where no other host can take guests now"
    promising = [place for place in same if guarantee <= place.unpromised]
    if not promising:
        return f"no host of the group {group} could keep its promise of {guarantee} KiB"
    best = max(promising, key=lambda place: (place.room, place.name))
    if best.room < needs:
        room = max(0, best.room)
        return f"it needs {needs} KiB there at once, and the most that a host of the group {group} has room for is {room} KiB"
    return best


def listed(guests: Iterable[HostedGuest]) -> tuple[HostedGuest, ...]:
    """The guests that a host tells of one by one, so that the record of one with 10,000 guests is small, too: the first to leave it, in
    their order, and the smallest."""
    ordered = sorted(guests, key=leaving_order)
    if len(ordered) <= MOST_TOLD:
        return tuple(ordered)
    first, rest = ordered[: MOST_TOLD - SMALLEST], [one for one in ordered[MOST_TOLD - SMALLEST :] if not one.stays]
    return (*first, *rest[-SMALLEST:])


def leaving_order(guest: HostedGuest) -> tuple[bool, int, str]:
    """The large ones first, which fit in the fewest places; those that cannot leave last."""
    return bool(guest.stays), -(guest.maximum or 0), guest.id
