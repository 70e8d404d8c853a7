"""What a guest's fields say of its memory, as the numbers that everything here is computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter

from mom_core import Guest, Value, as_number
from mom_plugins_balloon.limits import KnownMemory

_KNOWN_TYPES = frozenset({int, float, type(None)})


def known_numbers(guests: Iterable[Guest], name: str) -> Sequence[float]:
    """One field of all guests of which it is known."""
    values = [guest.fields.get(name) for guest in guests]
    found = values if _KNOWN_TYPES.issuperset(map(type, values)) else map(as_number, values)
    return [number for number in found if number is not None]  # type: ignore[misc]  # numbers, or None


class Several:
    """The same fields of many guests."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._all: Callable[[Mapping[str, Value]], tuple[Value, ...]] = itemgetter(*names)

    def of(self, guest: Guest) -> Sequence[float | None]:
        """These fields of a guest, each as `as_number` gives it."""
        values = self._row(guest.fields)
        return values if _KNOWN_TYPES.issuperset(map(type, values)) else tuple(map(as_number, values))  # type: ignore[return-value]  # numbers, or None

    def of_all(self, guests: Iterable[Guest]) -> Sequence[Sequence[float | None]]:
        """These fields of several guests, in their order, each as `as_number` gives it: their types are looked at together."""
        rows = [self._row(guest.fields) for guest in guests]
        if _KNOWN_TYPES.issuperset(map(type, chain.from_iterable(rows))):
            return rows  # type: ignore[return-value]  # numbers, or None
        return [tuple(map(as_number, row)) for row in rows]

    def _row(self, fields: Mapping[str, Value]) -> tuple[Value, ...]:
        try:
            return self._all(fields)  # of a guest that has all of them, in half the time
        except KeyError:
            return tuple(map(fields.get, self._names))


OF_MEMORY = Several("balloon_cur", "balloon_max", "mem_usable", "stats_age", "swap_in", "swap_out", "mem_available")
"""The fields of which a `KnownMemory` is made."""


def told(guest: Guest, current: float, obstacle: str) -> KnownMemory:
    """What the guest's present fields say.

    :param current: its size in KiB
    :param obstacle: why it is not to be shrunk; empty when it is
    """
    _, _, usable, age, swap_in, swap_out, total = OF_MEMORY.of(guest)
    swapping = max(swap_in or 0.0, swap_out or 0.0)
    return KnownMemory(current, usable=usable, statistics_age=age, swapping=swapping, total=total, obstacle=obstacle)
