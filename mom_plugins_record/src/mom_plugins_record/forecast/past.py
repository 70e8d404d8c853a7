"""Past days of guests, for eight weeks: the maximum use in each half hour, because averages hide bad days.

A guest takes less than 0.4 KiB a week: a byte for each half hour, relative to its sold size.
"""

from __future__ import annotations

import base64
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, TypeGuard

from mom_core import Guest, Host
from mom_kvm import GuestField
from mom_plugins_record.forecast.slots import SLOTS, Calendar, calendar_of

FILE: Final = "past.json"
LEARNED: Final = "learned-past.json"
"""Result of `mom forecast learn`."""

PARTS: Final = 48

MOST_DAYS: Final = 56
"""Eight weeks. Older days say little about the future."""

LEVELS: Final = 249
"""Steps of a sold size, rounded up to 0.4 %. Byte 0 is unknown; 1 is no use."""

MOST_GUESTS: Final = 10_000
"""Guests with stored days. Beyond that, mom forgets the guests that are absent for longest."""

LARGEST_KIB: Final = 1e12

LONGEST_NAME: Final = 256
MOST_VCPUS: Final = 8192
LAST_DAY: Final = date.max.toordinal()
FIRST_DAY: Final = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class GuestPast:
    """Past days of one guest, the oldest first: ordinals, sold size (KiB), and a byte for each part."""

    name: str
    ordinals: array[int] = field(default_factory=lambda: array("i"))
    sold: array[float] = field(default_factory=lambda: array("f"))
    used: bytearray = field(default_factory=bytearray)
    qemu_kib: int = 0
    """Largest measured memory of QEMU itself; 0 if unknown."""
    vcpus: int = 0

    def see_process(self, qemu_kib: float | None, vcpus: float | None) -> None:
        """Record QEMU's own memory and the number of vCPUs. Unknown values change nothing."""
        if is_size(qemu_kib):
            self.qemu_kib = max(self.qemu_kib, round(qemu_kib))
        if vcpus is not None and 0 < vcpus <= MOST_VCPUS:
            self.vcpus = round(vcpus)

    def take_in(self, ordinal: int, part: int, most: float, sold: float) -> None:
        """Add the maximum use in a part of a day, in KiB."""
        day = bisect_left(self.ordinals, ordinal)
        if self.ordinals[day : day + 1] != array("i", [ordinal]):
            oldest = max(0, len(self.ordinals) - MOST_DAYS + 1)
            if day < oldest:
                return
            # slices of exact size: appending would over-allocate
            self.ordinals = self.ordinals[oldest:day] + array("i", [ordinal]) + self.ordinals[day:]
            self.sold = self.sold[oldest:day] + array("f", [sold]) + self.sold[day:]
            self.used = self.used[PARTS * oldest : PARTS * day] + bytes(PARTS) + self.used[PARTS * day :]
            day -= oldest
        before = self.sold[day]
        if sold > 1.0001 * before:  # memory was plugged in, so old use is a smaller part (four bytes are exact to 0.01 %)
            self.sold[day] = sold
            for item in range(PARTS * day, PARTS * (day + 1)):
                self.used[item] = self.used[item] and 1 + math.ceil((self.used[item] - 1) * before / sold)
        place = PARTS * day + part
        self.used[place] = max(self.used[place], 1 + math.ceil(min(1.0, most / self.sold[day]) * LEVELS))

    def forget_after(self, ordinal: int) -> None:
        """Drop days after that one."""
        count = bisect_right(self.ordinals, ordinal)
        del self.ordinals[count:], self.sold[count:], self.used[PARTS * count :]

    def merge(self, other: GuestPast) -> bool:
        """Add better known days. Return whether anything changed."""
        days = {ordinal: (sold, used) for ordinal, sold, used in self._each()}
        before = dict(days)
        for ordinal, sold, used in other._each():
            if ordinal not in days or used.count(0) < days[ordinal][1].count(0):
                days[ordinal] = sold, used
        kept = sorted(days)[-MOST_DAYS:]
        self.ordinals, self.sold = array("i", kept), array("f", [days[ordinal][0] for ordinal in kept])
        self.used = bytearray().join(days[ordinal][1] for ordinal in kept)
        self.see_process(other.qemu_kib, self.vcpus or other.vcpus)
        return days != before

    def _each(self) -> Iterator[tuple[int, float, bytearray]]:
        for place, (ordinal, sold) in enumerate(zip(self.ordinals, self.sold, strict=True)):
            yield ordinal, sold, self.used[PARTS * place : PARTS * (place + 1)]

    def days(self) -> Mapping[int, Sequence[float | None]]:
        """Return the maximum use in each part of each day, in KiB; None if unknown."""
        return {ordinal: [None if not item else (item - 1) / LEVELS * sold for item in used] for ordinal, sold, used in self._each()}


@dataclass(slots=True)
class HostPast:
    """Past days of a host's guests, and the host's memory and its promisable part, in KiB."""

    guests: dict[str, GuestPast] = field(default_factory=dict)
    host: str = ""
    host_kib: float | None = None
    promisable_kib: float | None = None
    calendar: Calendar = field(default_factory=Calendar)

    def see(self, host: Host) -> None:
        """Record the host's name and memory. Unknown values change nothing."""
        self.host = host.name[:LONGEST_NAME] or self.host
        total, promisable = host.number("mem_available"), host.number("mem_promisable")
        self.host_kib = total if is_size(total) else self.host_kib
        self.promisable_kib = promisable if is_size(promisable) else self.promisable_kib

    def take_in(self, identity: str, name: str, index: int, most: float, sold: float | None) -> None:
        """Add a guest's maximum use in a past slot.

        :param index: from `Calendar.index`
        :param sold: KiB; None to learn nothing
        """
        day, slot = divmod(index, SLOTS)
        if not is_size(sold) or FIRST_DAY + day > LAST_DAY:  # `date` cannot hold ordinals of short artificial days
            return
        guest = self.guests.get(identity)
        if guest is None:
            guest = self.guests[identity] = GuestPast(name)
        guest.name = name
        guest.take_in(FIRST_DAY + day, slot * PARTS // SLOTS, most, sold)

    def see_process(self, guest: Guest) -> None:
        """Record QEMU's own memory for a guest with a past."""
        if (past := self.guests.get(guest.id)) is not None:
            past.see_process(guest.number(GuestField.QEMU_OVERHEAD), guest.number("vcpu_count"))

    def merge(self, other: HostPast) -> int:
        """Add learned days. Return the number of changed guests."""
        count = 0
        for identity, guest in other.guests.items():
            count += self.guests.setdefault(identity, GuestPast(guest.name)).merge(guest)
        self.host = self.host or other.host
        self.host_kib = self.host_kib if self.host_kib is not None else other.host_kib
        self.promisable_kib = self.promisable_kib if self.promisable_kib is not None else other.promisable_kib
        return count

    def forget_after(self, moment: float, *, only_few: bool) -> None:
        """Drop days after this time (seconds since the epoch), learned while the clock was ahead.

        :param only_few: only if they are at most half of all days
        """
        today = FIRST_DAY + self.calendar.index(moment) // SLOTS
        guests = self.guests.values()
        ahead = sum(len(item.ordinals) - bisect_right(item.ordinals, today) for item in guests)
        if only_few and 2 * ahead > sum(len(item.ordinals) for item in guests):
            return
        for guest in guests:
            guest.forget_after(today)

    def keep_only(self, ids: Collection[str]) -> None:
        """Forget all other guests."""
        self.guests = {identity: guest for identity, guest in self.guests.items() if identity in ids}

    def content(self) -> Mapping[str, Any]:
        """Return all days as JSON content."""
        return {**self.head(), "guests": [self.kept(identity) for identity in self.guests]}

    def head(self) -> Mapping[str, Any]:
        """Return the content without the guests."""
        return {
            "day": self.calendar.day_seconds,
            "week": self.calendar.week_days,
            "host": self.host,
            "host_kib": self.host_kib,
            "promisable_kib": self.promisable_kib,
            "qemu": {identity[:LONGEST_NAME]: (guest.qemu_kib, guest.vcpus) for identity, guest in self.guests.items() if guest.qemu_kib},
        }

    def kept(self, identity: str) -> Sequence[Any] | None:
        """Return a guest as lists and numbers; None if nothing is stored."""
        guest = self.guests.get(identity)
        if guest is None:
            return None
        sold = [round(kib) for kib in guest.sold]
        return [identity[:LONGEST_NAME], guest.name[:LONGEST_NAME], guest.ordinals.tolist(), sold, base64.b64encode(guest.used).decode()]


def past_from(content: Any) -> HostPast:
    """Return stored days. Raise any error for content that is not from `HostPast.content`."""
    total, promisable = (None if (kib := content[name]) is None else _kib(kib) for name in ("host_kib", "promisable_kib"))
    if not isinstance(content["host"], str) or len(content["guests"]) > MOST_GUESTS:
        raise ValueError("the host has no name, or too many guests")
    result = HostPast({}, content["host"][:LONGEST_NAME], total, promisable, calendar_of(content))
    processes = content.get("qemu", {})
    for identity, name, ordinals, sold, text in content["guests"]:
        if not isinstance(identity, str) or not isinstance(name, str):
            raise TypeError("a guest's record is invalid")
        used = base64.b64decode(text, validate=True)
        days = [ordinal for ordinal in ordinals if isinstance(ordinal, int) and 0 < ordinal <= LAST_DAY]
        if not len(days) == len(ordinals) == len(sold) <= MOST_DAYS or len(used) != PARTS * len(days) or days != sorted(set(days)):
            raise ValueError("days of a guest are invalid")
        if max(used, default=0) > 1 + LEVELS:
            raise ValueError("a part of a day is out of bounds")
        kib = array("f", [_kib(item) for item in sold])
        guest = result.guests[identity] = GuestPast(name[:LONGEST_NAME], array("i", days), kib, bytearray(used))
        guest.see_process(*map(float, processes.get(identity, (0, 0))))
    return result


def is_size(value: float | None) -> TypeGuard[float]:
    """Return True for a storable size in KiB."""
    return value is not None and 1 <= value <= LARGEST_KIB


def _kib(value: Any) -> float:
    size = float(value)
    if not is_size(size):
        raise ValueError("a size is invalid")
    return size
