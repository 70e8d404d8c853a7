"""Where guests that must leave can go: pure, and the same for all who have the same numbers. Sizes in KiB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

RESERVE_SHARE: Final = 0.10
RESERVE_MOST_KIB: Final = 16 << 20
"""What a host keeps available when guests come to it: so much of its memory, and 16 GiB at most. A guest that arrives takes all of its
memory within a minute, and its host's own mom needs some time to make more."""


@dataclass(frozen=True, slots=True)
class TargetHost:
    """A host that guests may come to: its memory, what is available, what is on its way to it, and what was promised to its guests."""

    name: str
    group: str
    total: int
    available: int
    coming: int = 0
    promised: int = 0

    @property
    def room(self) -> int:
        """What guests that come may take; may be negative."""
        return self.available - self.coming - min(RESERVE_MOST_KIB, int(RESERVE_SHARE * self.total))


@dataclass(frozen=True, slots=True)
class Leaver:
    """A guest that must leave: what it will take where it comes to, and what was promised to it."""

    guest: str
    takes: int
    guarantee: int = 0


def foremost(places: Iterable[TargetHost], group: str) -> dict[str, TargetHost]:
    """Of all places, those of which `choose` takes one whatever the guest: no other of the group has more room and can promise as much.

    They are few, also of 10,000 hosts: a host's 400 guests that find no room are known to in a moment.
    """
    found: dict[str, TargetHost] = {}
    most = float("-inf")
    for place in sorted((one for one in places if one.group == group), key=lambda one: (one.room, one.name), reverse=True):
        if place.total - place.promised > most:
            found[place.name] = place
            most = place.total - place.promised
    return found


def choose(leaver: Leaver, places: Mapping[str, TargetHost], group: str, avoid: frozenset[str] = frozenset()) -> TargetHost | str:
    """The host that has the most room left when the guest has come; or why there is none.

    The most room, not the least that is enough: hosts that are filled to the brim are those that must squeeze guests next.

    :param group: only hosts of this group run the guest under the same promises
    :param avoid: hosts where it did not work before
    """
    same = [place for place in places.values() if place.group == group and place.name not in avoid]
    if not same:
        return f"no other host of the group {group} can take guests now"
    promising = [place for place in same if place.promised + leaver.guarantee <= place.total]
    if not promising:
        return f"no host of the group {group} could keep its promise of {leaver.guarantee} KiB"
    best = max(promising, key=lambda place: (place.room, place.name))
    if best.room < leaver.takes:
        return f"it takes {leaver.takes} KiB, and the most that a host of the group {group} has room for is {max(0, best.room)} KiB"
    return best
