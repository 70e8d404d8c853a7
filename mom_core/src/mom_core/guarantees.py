"""What a guest is promised, and what of that holds: figures that are the same wherever they are shown or counted with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mom_core.model import Value

HOLDS: Final = "guest_guarantee"
"""The field of the plugin that holds guarantees: the largest promise, as far as the host can keep it."""

PROMISES: Final = ("mem_promised", "mem_guarantee", "balloon_min")
"""Fields with what a guest is promised, in KiB: all together, by its class, and by the operator or the management system."""

_SHARE: Final = "mem_guarantee_share"
_MAXIMUM: Final = "balloon_max"


def guaranteed_kib(fields: Mapping[str, Value]) -> float | None:
    """The size in KiB below which a guest is not shrunk: what holds of all that it is promised.

    This is what every surface calls guaranteed. Where no plugin says what holds, everything that is promised does.

    :param fields: the guest's
    :return: None where it is promised nothing, as far as is known
    """
    holds = _number(fields.get(HOLDS))
    return promised_kib(fields) if holds is None else holds


def promised_kib(fields: Mapping[str, Value]) -> float | None:
    """The largest promise to a guest in KiB, also what the host cannot keep of it; at most what the guest can have.

    :param fields: the guest's
    :return: None where it is promised nothing, as far as is known
    """
    known = [kib for name in PROMISES if (kib := _number(fields.get(name))) is not None]
    maximum, share = _number(fields.get(_MAXIMUM)), _number(fields.get(_SHARE))
    if maximum is not None and share is not None:
        known.append(min(1.0, share) * maximum)
    if not known:
        return None
    return max(known) if maximum is None else min(max(known), maximum)


def _number(value: Value) -> float | None:
    """A number as it is, anything else as unknown."""
    kind = type(value)  # exact types, as this is asked several times for each guest, and a bool is no number here
    return value if kind is int or kind is float else None  # type: ignore[return-value]  # mypy does not narrow by `kind`
