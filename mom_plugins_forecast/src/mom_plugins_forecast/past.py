"""Days of guests as they were, for some weeks: what each used at most in each half hour. Averages say nothing of how bad a day can be.

Kept in less than 0.4 KiB a guest and week: a byte for each half hour, as a part of what the guest was sold.
"""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

from mom_core import MomError, StateFile
from mom_plugins_forecast.slots import SLOTS
from mom_toolkit import PastGuest

FILE: Final = "past.json"
WHAT: Final = "the file of guests' past days"
LOSS: Final = "how much can be sold at which risk is known again after two weeks"

PARTS: Final = 48
"""Of a day: half hours. What is needed at most in one of them is short for half an hour, or for less."""

MOST_DAYS: Final = 56
"""Eight weeks: what guests did longer ago, they need not do still."""

LEVELS: Final = 249
"""Of what a guest was sold: the byte 0 is for what is not known, and 1 for nothing. Rounded up: to 0.4 %."""

MOST_GUESTS: Final = 10_000
"""Guests whose days are kept: beyond that, those that were not seen for longest are forgotten."""

LARGEST_KIB: Final = 1e12
"""A PiB."""

LONGEST_NAME: Final = 256
LAST_DAY: Final = date.max.toordinal()
FIRST_DAY: Final = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class GuestPast:
    """The past days of one guest, the oldest first: their ordinals, what it was sold then (KiB), and a byte for each part of each."""

    name: str
    ordinals: list[int] = field(default_factory=list)
    sold: array[float] = field(default_factory=lambda: array("f"))
    used: bytearray = field(default_factory=bytearray)

    def take_in(self, ordinal: int, part: int, most: float, sold: float) -> None:
        """What it used at most in a part of a day, or in some of it; both in KiB. What comes before the last day is left out: the clock has
        jumped."""
        if not self.ordinals or ordinal > self.ordinals[-1]:
            self.ordinals.append(ordinal)
            self.sold.append(sold)
            self.used += bytes(PARTS)
            if len(self.ordinals) > MOST_DAYS:
                del self.ordinals[0], self.sold[0], self.used[:PARTS]
        elif ordinal < self.ordinals[-1]:
            return
        place = len(self.used) - PARTS + part
        self.used[place] = max(self.used[place], 1 + math.ceil(min(1.0, most / self.sold[-1]) * LEVELS))

    def days(self) -> Mapping[int, Sequence[float | None]]:
        """What it used at most in each part of each day, in KiB; None: unknown."""
        return {
            ordinal: [None if not one else (one - 1) / LEVELS * sold for one in self.used[PARTS * place : PARTS * (place + 1)]]
            for place, (ordinal, sold) in enumerate(zip(self.ordinals, self.sold, strict=True))
        }


@dataclass(slots=True)
class HostPast:
    """The past days of a host's guests, and the host's memory (KiB): all of it, and what it can promise; None: unknown."""

    guests: dict[str, GuestPast] = field(default_factory=dict)
    host: str = ""
    host_kib: float | None = None
    promisable_kib: float | None = None

    def take_in(self, identity: str, name: str, index: int, most: float, sold: float | None) -> None:
        """What a guest used at most in a slot that has ended.

        :param index: its number, as `Calendar.index` counts
        :param sold: KiB that it can have at most; None: unknown, and nothing is learned
        """
        if sold is None or sold <= 0:
            return
        day, slot = divmod(index, SLOTS)
        guest = self.guests.get(identity)
        if guest is None:
            guest = self.guests[identity] = GuestPast(name)
        guest.name = name
        guest.take_in(FIRST_DAY + day, slot * PARTS // SLOTS, most, sold)

    def content(self, known: Collection[str]) -> Mapping[str, Any]:
        """All that is to be kept: of those guests that are known still."""
        self.guests = {identity: guest for identity, guest in list(self.guests.items()) if identity in known}
        guests = [
            [
                identity[:LONGEST_NAME],
                one.name[:LONGEST_NAME],
                one.ordinals,
                [round(kib) for kib in one.sold],
                base64.b64encode(one.used).decode(),
            ]
            for identity, one in self.guests.items()
        ]
        return {"host": self.host, "host_kib": self.host_kib, "promisable_kib": self.promisable_kib, "guests": guests}


def past_from(content: Any) -> HostPast:
    """What was kept. Raises any error for what `HostPast.content` did not give."""
    sizes = [None if (kib := content[name]) is None else _kib(kib) for name in ("host_kib", "promisable_kib")]
    if not isinstance(content["host"], str) or len(content["guests"]) > MOST_GUESTS:
        raise ValueError("the host has no name, or too many guests")
    found = HostPast({}, content["host"][:LONGEST_NAME], *sizes)
    for identity, name, ordinals, sold, text in content["guests"]:
        if not isinstance(identity, str) or not isinstance(name, str):
            raise TypeError("a guest is not as it was kept")
        used = base64.b64decode(text, validate=True)
        days = [one for one in ordinals if isinstance(one, int) and 0 < one <= LAST_DAY]
        if not len(days) == len(ordinals) == len(sold) <= MOST_DAYS or len(used) != PARTS * len(days) or days != sorted(set(days)):
            raise ValueError("days of a guest are not as they were kept")
        if max(used, default=0) > 1 + LEVELS:
            raise ValueError("a part of a day is out of all bounds")
        kib = array("f", [_kib(one) for one in sold])
        found.guests[identity] = GuestPast(name[:LONGEST_NAME], days, kib, bytearray(used))
    return found


def _kib(value: Any) -> float:
    size = float(value)
    if not 0 < size <= LARGEST_KIB:
        raise ValueError("a size makes no sense")
    return size


class StoredPast:
    """`PastDays`: the file in which a mom keeps them. Raises `MomError` where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = StateFile(path, WHAT, past_from, loss=LOSS, sets_aside=False).look()
        if found is None:
            raise MomError(
                f"there are no past days of guests in {path} yet",
                hint="a mom with the plugin forecast writes them each hour, and knows enough after two weeks",
            )
        self._past = found

    @property
    def where(self) -> str:
        """The file."""
        return str(self._path)

    @property
    def host(self) -> str:
        """The host's name."""
        return self._past.host or self._path.parent.name

    @property
    def host_kib(self) -> float | None:
        """The host's memory."""
        return self._past.host_kib

    @property
    def promisable_kib(self) -> float | None:
        """What of it the host can promise to guests."""
        return self._past.promisable_kib

    def guests(self) -> Sequence[PastGuest]:
        """The guests that have any days."""
        return [PastGuest(identity, one.name, one.sold[-1], one.days()) for identity, one in self._past.guests.items() if one.ordinals]
