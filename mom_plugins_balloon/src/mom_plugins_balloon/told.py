"""What a guest's fields say of its memory, as the numbers that everything here is computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mom_core import Guest, Snapshot
from mom_plugins_balloon.limits import KnownMemory

_OF_MEMORY = ("balloon_cur", "balloon_max", "mem_usable", "stats_age", "swap_in", "swap_out", "mem_available")


def memory_of_all(snapshot: Snapshot) -> Mapping[str, Sequence[float | None]]:
    """By guest id what a `KnownMemory` is made of: size, maximum, usable memory, the age of the statistics, swapping in and out, total."""
    return dict(zip(snapshot.guests, zip(*[snapshot.numbers(name) for name in _OF_MEMORY], strict=True), strict=True))


def known_memory(numbers: Sequence[float | None], obstacle: str = "", guarantee: float | None = None) -> KnownMemory | None:
    """What these numbers say; None when not even the guest's size is known.

    :param numbers: as of one guest in `memory_of_all`
    :param obstacle: why it is not to be shrunk; empty when it is
    :param guarantee: KiB that it is promised
    """
    current, maximum, usable, age, swap_in, swap_out, total = numbers
    if current is None:
        return None
    swapping = max(swap_in or 0.0, swap_out or 0.0) if swap_in or swap_out else 0.0
    return KnownMemory(current, maximum, guarantee, usable, age, swapping, total, obstacle=obstacle)


def memory_of(guest: Guest, obstacle: str, guarantee: float | None = None) -> KnownMemory | None:
    """What the guest's present fields say; as `known_memory`."""
    return known_memory([guest.number(name) for name in _OF_MEMORY], obstacle, guarantee)
