"""Past days of guests, for eight weeks: the maximum use in each half hour, because averages hide bad days.

A guest takes less than 0.4 KiB a week: a byte for each half hour, relative to its sold size.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, TypeGuard

from mom_plugins_record.forecast.curve import SLOTS

PARTS: Final = 48

MOST_DAYS: Final = 56
"""Eight weeks. Older days say little about the future."""

LEVELS: Final = 249
"""Number of steps for the use, relative to the sold size: 0.4 % each, rounded up. Byte 0 means unknown, and 1 means no use."""

LARGEST_KIB: Final = 1e12

MOST_VCPUS: Final = 8192
LAST_DAY: Final = date.max.toordinal()
FIRST_DAY: Final = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class GuestPast:
    """Past days of one guest, the oldest first: their ordinals, the sold size in KiB, and a byte for each half hour."""

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

    def take_in(self, index: int, most: float, sold: float | None) -> None:
        """Add the maximum use in a past slot, in KiB.

        :param index: slot number from `Calendar.index`
        :param sold: sold size in KiB; with None, nothing is added
        """
        ordinal, slot = FIRST_DAY + index // SLOTS, index % SLOTS
        if not is_size(sold) or ordinal > LAST_DAY:  # `date` cannot hold ordinals of short artificial days
            return
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
        if sold > 1.0001 * before:  # memory was plugged in: old use is a smaller part (floats are exact to 0.01 %)
            self.sold[day] = sold
            for item in range(PARTS * day, PARTS * (day + 1)):
                self.used[item] = self.used[item] and 1 + math.ceil((self.used[item] - 1) * before / sold)
        place = PARTS * day + slot * PARTS // SLOTS
        self.used[place] = max(self.used[place], 1 + math.ceil(min(1.0, most / self.sold[day]) * LEVELS))

    def merge(self, other: GuestPast) -> bool:
        """Add days that `other` has with fewer unknown values. Return whether any day changed."""
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
        """Return the maximum use in each half hour of each day, in KiB (None if unknown), keyed by the day's ordinal."""
        return {ordinal: [None if not item else (item - 1) / LEVELS * sold for item in used] for ordinal, sold, used in self._each()}


@dataclass(frozen=True, slots=True)
class PastGuest:
    """Past days of a guest, unpacked. `days` is the largest use in each half hour of a day in KiB, keyed by the day's ordinal."""

    sold_kib: float
    days: Mapping[int, Sequence[float | None]]
    qemu_kib: float = 0.0
    """Largest measured memory of QEMU itself; 0 if unknown."""
    vcpus: int = 0
    """Number of vCPUs; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class PastHost:
    """Past days of a host's guests.

    :param where: path of the file
    :param host_kib: the host's memory; None if unknown
    :param promisable_kib: part of the host's memory that mom can promise to guests; None if unknown
    """

    where: str
    host: str
    host_kib: float | None
    promisable_kib: float | None
    guests: Sequence[PastGuest]


def is_size(value: float | None) -> TypeGuard[float]:
    """Return whether the value is a size in KiB that can be stored."""
    return value is not None and 1 <= value <= LARGEST_KIB
