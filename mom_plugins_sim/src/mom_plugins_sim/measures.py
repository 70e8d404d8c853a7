"""Numbers out of fields, for those who sum up and draw: what is unknown stays apart from what is nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from mom_core import Guest, Value

UNKNOWN: Final = math.nan
"""In a line that is drawn: a gap."""

LARGEST: Final = 1e18
"""More than anything that is measured, in any unit; with what is beyond, nothing can be reckoned or drawn."""

PAGE_KIB: Final = 4

NOTICEABLE_KIB: Final = 16 * 1024
"""KiB by which a guest must be smaller than it was sold to count as shrunk: mom's least step."""


def number(fields: Mapping[str, Value], name: str, unknown: float = 0.0) -> float:
    """A field as a number; `unknown` where it is none."""
    return number_of(fields.get(name), unknown)


def number_of(value: Value, unknown: float = 0.0) -> float:
    """A value as a number; `unknown` where it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST:
        return float(value)
    return unknown


def taken_from(guest: Guest) -> float:
    """How much smaller the guest is than it was sold, in KiB; 0 where that is unknown."""
    return max(0.0, number(guest.fields, "balloon_max", UNKNOWN) - number(guest.fields, "balloon_cur", UNKNOWN))
