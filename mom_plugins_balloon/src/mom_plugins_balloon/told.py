"""What a guest's fields say of its memory, as the numbers that everything here is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from mom_core import Guest, Value
from mom_plugins_balloon.limits import Memory


def told(guest: Guest, current: float, obstacle: str) -> Memory:
    """What the guest's present fields say.

    :param current: its size in KiB
    :param obstacle: why it is not to be shrunk; empty when it is
    """
    usable, age, swapping, total = told_of_memory(guest.fields)
    return Memory(current, usable=usable, statistics_age=age, swapping=swapping, total=total, obstacle=obstacle)


def told_of_memory(fields: Mapping[str, Value]) -> tuple[float | None, float | None, float, float | None]:
    """`usable`, `statistics_age`, `swapping` and `total` of a `Memory`."""
    usable, age, swap_in, swap_out, total = numbers(fields, _OF_MEMORY)
    return usable, age, max(swap_in or 0.0, swap_out or 0.0), total


_OF_MEMORY = ("mem_usable", "stats_age", "swap_in", "swap_out", "mem_available")


def number(value: Value) -> float | None:
    """A number as it is, anything else as unknown."""
    kind = type(value)  # exact types, as this is asked some ten times for each guest that is resized, and a bool is no number here
    return value if kind is int or kind is float else None  # type: ignore[return-value]  # mypy does not narrow by `kind`


_KNOWN_TYPES = frozenset({int, float, type(None)})


def numbers(fields: Mapping[str, Value], names: Sequence[str]) -> Sequence[float | None]:
    """Several fields at once, each as `number` gives it."""
    values = tuple(map(fields.get, names))
    return values if _KNOWN_TYPES.issuperset(map(type, values)) else tuple(map(number, values))  # type: ignore[return-value]  # numbers, or None


def numbers_of_all(guests: Iterable[Guest], names: Sequence[str]) -> Sequence[Sequence[float | None]]:
    """The same of several guests, in their order: their types are looked at together."""
    rows = [tuple(map(guest.fields.get, names)) for guest in guests]
    if _KNOWN_TYPES.issuperset(map(type, chain.from_iterable(rows))):
        return rows  # type: ignore[return-value]  # numbers, or None
    return [tuple(map(number, row)) for row in rows]
