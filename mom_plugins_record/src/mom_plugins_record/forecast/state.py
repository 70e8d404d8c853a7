"""Encoding of learned days: less than 8 KiB a guest."""

from __future__ import annotations

import base64
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mom_plugins_record.forecast.curve import GuestDays
from mom_plugins_record.forecast.host_days import LONGEST_NAME, MOST_GUESTS, HostDays, KnownGuest
from mom_plugins_record.forecast.past import LARGEST_KIB, LAST_DAY, LEVELS, MOST_DAYS, PARTS, GuestPast, is_size
from mom_plugins_record.forecast.slots import HOURS, LONGEST_DAY, LONGEST_WEEK, SHORTEST_DAY, SLOTS, Calendar

LARGEST_NUMBER: Final = 1e30
"""Bound of sums of squares of sizes."""

_NUMBERS: Final = 15
"""Numbers of a guest in addition to `usual`."""

_MIDDLE: Final = 0x8000
"""Replacement for the lower two bytes of a float: their middle, so that repeated saving loses nothing more."""


def content_of(days: HostDays) -> Mapping[str, Any]:
    """Return all days as JSON content."""
    return {**head_of(days), "guests": [kept_guest(guest) for guest in days.to_keep()]}


def head_of(days: HostDays) -> Mapping[str, Any]:
    """Return the content without the guests."""
    return {
        "day": days.calendar.day_seconds,
        "week": days.calendar.week_days,
        "sum": [days.margin, days.usual],
        "host": days.host_name,
        "host_kib": days.host_kib,
        "promisable_kib": days.promisable_kib,
    }


def days_from(content: Any) -> HostDays:
    """Return stored days, with their own calendar. Raise any error for content that is not from `content_of`."""
    calendar = _calendar(content)
    result = HostDays(calendar, calendar.slot_seconds)
    result.margin, result.usual = (_size(number) for number in content["sum"])
    host, *sizes = content.get("host", ""), content.get("host_kib"), content.get("promisable_kib")  # earlier files have none
    if not isinstance(host, str):
        raise TypeError("the host has no name")
    result.host_name = host[:LONGEST_NAME]
    result.host_kib, result.promisable_kib = (None if kib is None else _kib(kib) for kib in sizes)
    guests = content["guests"]
    if len(guests) > MOST_GUESTS:
        raise ValueError("there are too many guests")
    for item in guests:
        guest = _guest(item, calendar)
        result.known[guest.id] = guest
    return result


def _calendar(content: Any) -> Calendar:
    day, week = content["day"], content["week"]
    if not (SHORTEST_DAY <= day <= LONGEST_DAY and isinstance(week, int) and 1 <= week <= LONGEST_WEEK):
        raise ValueError("the length of days or weeks is invalid")
    return Calendar(float(day), week)


def kept_guest(guest: KnownGuest) -> Sequence[Any]:
    """Return a guest as lists and numbers."""
    days, past = guest.days, guest.past
    numbers = [days.usual, *days.losses, *days.week_losses, *days.wrong, *days.lasting, days.margin, days.average, days.weight]
    return [
        guest.id[:LONGEST_NAME], guest.name[:LONGEST_NAME], int(guest.present_at), days.slots, int(days.has_pattern),
        [None if math.isnan(number) else float(f"{number:.6g}") for number in numbers],
        *(_packed(curve) for curve in (days.by_day, days.by_week, days.last, days.excess, days.growth, days.hour_errors)),
        past.ordinals.tolist(), [round(kib) for kib in past.sold], base64.b64encode(past.used).decode(), past.qemu_kib, past.vcpus,
    ]  # fmt: skip


def _guest(kept: Sequence[Any], calendar: Calendar) -> KnownGuest:
    identity, name, present_at, slots, pattern, numbers, *texts = kept
    curves, past = texts[:6], texts[6:]
    if not (isinstance(identity, str) and isinstance(name, str) and isinstance(slots, int) and pattern in (0, 1)) or slots < 0:
        raise TypeError("a guest's record is invalid")
    lengths = (SLOTS, calendar.week_slots, SLOTS, SLOTS, SLOTS, HOURS)
    by_day, by_week, last, excess, growth, errors = (_unpacked(*item) for item in zip(curves, lengths, strict=True))
    usual, *counters = (math.nan if number is None else _number(number) for number in numbers)
    if len(counters) != _NUMBERS:
        raise ValueError("a guest's record is invalid")
    losses, week_losses, wrong, lasting = (array("d", part) for part in (counters[:3], counters[3:6], counters[6:10], counters[10:12]))
    margin, average, weight = counters[12:]
    if not 0 <= weight <= 1 or min(*losses, *week_losses, *wrong, lasting[1], margin) < 0:
        raise ValueError("a number of a guest is invalid")
    days = GuestDays(
        calendar, by_day, by_week, last, excess, growth, errors, usual, losses, week_losses, wrong, lasting, margin, average, weight, slots,
        bool(pattern),
    )  # fmt: skip
    return KnownGuest(identity[:LONGEST_NAME], name[:LONGEST_NAME], days, _number(present_at), _past(*past))


def _past(ordinals: Sequence[Any] = (), sold: Sequence[Any] = (), text: str = "", qemu_kib: Any = 0, vcpus: Any = 0) -> GuestPast:
    # Earlier files have no past days.
    used = base64.b64decode(text, validate=True)
    days = [ordinal for ordinal in ordinals if isinstance(ordinal, int) and 0 < ordinal <= LAST_DAY]
    if not len(days) == len(ordinals) == len(sold) <= MOST_DAYS or len(used) != PARTS * len(days) or days != sorted(set(days)):
        raise ValueError("days of a guest are invalid")
    if max(used, default=0) > 1 + LEVELS:
        raise ValueError("a part of a day is out of bounds")
    past = GuestPast(array("i", days), array("f", [_kib(item) for item in sold]), bytearray(used))
    past.see_process(_number(qemu_kib), _number(vcpus))
    return past


def _packed(curve: array[float]) -> str:
    # The upper two bytes of each float are stored, exact to 0.4 %.
    halves = array("H", [word >> 16 for word in array("I", curve.tobytes())])
    if sys.byteorder == "big":
        halves.byteswap()
    return base64.b64encode(halves.tobytes()).decode()


def _unpacked(text: str, length: int) -> array[float]:
    halves = array("H", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        halves.byteswap()
    if len(halves) != length:
        raise ValueError("a curve has an invalid length")
    curve = array("f", array("I", [half << 16 | _MIDDLE for half in halves]).tobytes())
    # NaN is an unknown size. Infinite or negative sizes were never stored.
    if any(item < 0 or item > LARGEST_KIB for item in curve):
        raise ValueError("a curve contains an invalid size")
    return curve


def _number(value: Any) -> float:
    number = float(value)
    if not abs(number) <= LARGEST_NUMBER:  # NaN fails too
        raise ValueError("a number is out of bounds")
    return number


def _size(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError("a size is negative")
    return number


def _kib(value: Any) -> float:
    size = float(value)
    if not is_size(size):
        raise ValueError("a size is invalid")
    return size
