"""Numbers out of fields, for those who sum up and draw: what is unknown stays apart from what is nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from mom_core import Guest, Value, as_number

UNKNOWN_NUMBER: Final = math.nan
"""In a line that is drawn: a gap."""

PAGE_KIB: Final = 4
"""KiB of a page, as KSM counts them."""

GUARANTEE: Final = "guest_guarantee"
"""The field with what holds of all that a guest is promised."""

NOTICEABLE_KIB: Final = 16 * 1024
"""KiB by which a guest must be smaller than it was sold to count as shrunk: mom's least step."""

BROKEN_KIB: Final = 1024
"""KiB by which a size may be below a promise and still keep it: balloons move in pages, some guests' in 2 MiB."""


def field_number(fields: Mapping[str, Value], name: str, unknown: float = 0.0) -> float:
    """A field as a number; `unknown` where it is none."""
    return value_number(fields.get(name), unknown)


def value_number(value: Value, unknown: float = 0.0) -> float:
    """A value as a number; `unknown` where it is none."""
    known = as_number(value)
    return unknown if known is None else float(known)


def taken_from(guest: Guest) -> float:
    """How much smaller the guest is than it was sold, in KiB; 0 where that is unknown."""
    return max(0.0, field_number(guest.fields, "balloon_max", UNKNOWN_NUMBER) - field_number(guest.fields, "balloon_cur", UNKNOWN_NUMBER))


def need_of(guest: Guest) -> tuple[float | None, str]:
    """The size in KiB below which a guest is harmed, and why: what it is guaranteed, or uses now without what it could give. None: unknown.

    A guest that is smaller than its need already is not harmed by staying so.
    """
    guaranteed = guest.number(GUARANTEE)
    size = field_number(guest.fields, "balloon_cur", UNKNOWN_NUMBER)
    used = size - field_number(guest.fields, "mem_usable", UNKNOWN_NUMBER)
    best = guaranteed if guaranteed is None or math.isnan(size) else min(guaranteed, size)
    if not math.isnan(used) and (best is None or used > best):
        return used, "uses"
    return best, "is guaranteed"
