"""Past days of guests, for eight weeks: the maximum use in each half hour, because averages hide bad days.

The file has a byte for each half hour, relative to the guest's sold size: less than 0.5 KiB a week.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
class PastDay:
    """Largest use in each half hour of a day, as bytes relative to the `sold` size in KiB."""

    sold: float
    used: bytearray = field(default_factory=lambda: bytearray(PARTS))

    def add(self, place: int, most: float, sold: float) -> None:
        """Add the largest use in half hour `place`, in KiB."""
        if sold > self.sold:  # memory was plugged in: old use is a smaller part
            self.used = bytearray(item and 1 + math.ceil((item - 1) * self.sold / sold) for item in self.used)
            self.sold = sold
        self.used[place] = max(self.used[place], 1 + math.ceil(min(1.0, most / self.sold) * LEVELS))


@dataclass(slots=True)
class GuestPast:
    """Past days of one guest, keyed by ordinal."""

    by_day: dict[int, PastDay] = field(default_factory=dict)
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
        if is_size(sold) and ordinal <= LAST_DAY:  # `date` cannot hold ordinals of short artificial days
            self.by_day.setdefault(ordinal, PastDay(round(sold))).add(slot * PARTS // SLOTS, most, round(sold))
            self._drop_oldest()

    def merge(self, other: GuestPast) -> None:
        """Add days that `other` has with fewer unknown values."""
        for ordinal, day in other.by_day.items():
            own = self.by_day.get(ordinal)
            if own is None or day.used.count(0) < own.used.count(0):
                self.by_day[ordinal] = day
        self._drop_oldest()
        self.see_process(other.qemu_kib, self.vcpus or other.vcpus)

    def _drop_oldest(self) -> None:
        while len(self.by_day) > MOST_DAYS:
            del self.by_day[min(self.by_day)]

    def days(self) -> Mapping[int, Sequence[float | None]]:
        """Return the maximum use in each half hour of each day, in KiB (None if unknown), keyed by the day's ordinal."""
        return {
            ordinal: [None if not item else (item - 1) / LEVELS * day.sold for item in day.used]
            for ordinal, day in sorted(self.by_day.items())
        }


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

    :param host_kib: the host's memory; None if unknown
    :param promisable_kib: part of the host's memory that mom can promise to guests; None if unknown
    """

    host: str
    host_kib: float | None
    promisable_kib: float | None
    guests: Sequence[PastGuest]


def is_size(value: float | None) -> TypeGuard[float]:
    """Return whether the value is a size in KiB that can be stored."""
    return value is not None and 1 <= value <= LARGEST_KIB
