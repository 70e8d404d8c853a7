"""What a guest's fields say of its memory, as the numbers that everything here is computed from."""

from __future__ import annotations

from mom_core import Guest, Value
from mom_plugins_balloon.limits import Memory


def told(guest: Guest, current: float, obstacle: str) -> Memory:
    """What the guest's present fields say.

    :param current: its size in KiB
    :param obstacle: why it is not to be shrunk; empty when it is
    """
    fields = guest.fields
    return Memory(
        current,
        usable=number(fields.get("mem_usable")),
        statistics_age=number(fields.get("stats_age")),
        swapping=max(number(fields.get("swap_in")) or 0.0, number(fields.get("swap_out")) or 0.0),
        total=number(fields.get("mem_available")),
        obstacle=obstacle,
    )


GUARANTEES = ("guest_guarantee", "mem_guarantee", "balloon_min")
"""Fields with what a guest is promised, in KiB: what holds of it as of the last cycle, by its class, and by itself. The largest counts."""


def promised(guest: Guest) -> float:
    """KiB that the guest must not fall below, as its fields say; 0: it is promised nothing."""
    kib = max(number(guest.fields.get(name)) or 0.0 for name in GUARANTEES)
    maximum = number(guest.fields.get("balloon_max"))
    return kib if maximum is None else min(kib, maximum)


def number(value: Value) -> float | None:
    """A number as it is, anything else as unknown."""
    kind = type(value)  # exact types, as this is asked some ten times for each guest that is resized, and a bool is no number here
    return value if kind is int or kind is float else None  # type: ignore[return-value]  # mypy does not narrow by `kind`
