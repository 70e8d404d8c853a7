"""What a guest is promised, and what of that holds, by its fields alone."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import Guest, Value, as_number
from mom_plugins_balloon.guarantees import GUARANTEE, GUARANTEE_SHARE, PLATFORMS_GUARANTEE

HOLDS = "guest_guarantee"
"""The field with what holds: the largest promise, as far as the host can keep it."""

PROMISED = "mem_promised"
"""The field with the largest promise."""

_PROMISES = (PROMISED, GUARANTEE, PLATFORMS_GUARANTEE)


def guaranteed_kib(fields: Mapping[str, Value]) -> float | None:
    """What holds: see `Promises`. In the first cycle, before it is known what the host can keep, all that is promised does."""
    holds = as_number(fields.get(HOLDS))
    return promised_kib(fields) if holds is None else holds


def promised_kib(fields: Mapping[str, Value]) -> float | None:
    """The largest promise: see `Promises`."""
    known = [kib for name in _PROMISES if (kib := as_number(fields.get(name))) is not None]
    maximum, share = as_number(fields.get("balloon_max")), as_number(fields.get(GUARANTEE_SHARE))
    if maximum is not None and share is not None:
        known.append(min(1.0, share) * maximum)
    if not known:
        return None
    return max(known) if maximum is None else min(max(known), maximum)


class HeldPromises:
    """Implements `Promises`."""

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """What holds, in KiB."""
        return guaranteed_kib(guest.fields)

    def promised_kib(self, guest: Guest) -> float | None:
        """All that is promised, in KiB."""
        return promised_kib(guest.fields)
