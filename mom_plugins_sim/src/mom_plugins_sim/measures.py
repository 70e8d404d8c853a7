"""Numbers out of fields, for those who sum up and draw: what is unknown stays apart from what is nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from mom_core import Guest, Value, as_number

UNKNOWN: Final = math.nan
"""In a line that is drawn: a gap."""

PAGE_KIB: Final = 4

GUARANTEE: Final = "guest_guarantee"
"""The field with what holds of all that a guest is promised."""

NOTICEABLE_KIB: Final = 16 * 1024
"""KiB by which a guest must be smaller than it was sold to count as shrunk: mom's least step."""


def number(fields: Mapping[str, Value], name: str, unknown: float = 0.0) -> float:
    """A field as a number; `unknown` where it is none."""
    return number_of(fields.get(name), unknown)


def number_of(value: Value, unknown: float = 0.0) -> float:
    """A value as a number; `unknown` where it is none."""
    known = as_number(value)
    return unknown if known is None else float(known)


def taken_from(guest: Guest) -> float:
    """How much smaller the guest is than it was sold, in KiB; 0 where that is unknown."""
    return max(0.0, number(guest.fields, "balloon_max", UNKNOWN) - number(guest.fields, "balloon_cur", UNKNOWN))
