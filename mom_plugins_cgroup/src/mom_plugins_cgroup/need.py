"""What a guest must keep of its host's memory: what it uses, what it was promised, and what QEMU itself takes. Pure."""

from __future__ import annotations

from typing import NamedTuple

from mom_core import Guest


class Need(NamedTuple):
    """KiB that the guest's group must be able to hold; None when it is unknown, and then why. `promised` counts in any case."""

    kib: int | None
    promised: int
    why_not: str


def need_of(guest: Guest, guaranteed_kib: float | None, overhead_kib: int, stale_after: float) -> Need:
    """What a guest needs by its own statistics.

    Its need is its size less what is usable in it, as for balloons; `overhead_kib` comes on top of that and of what was promised.

    :param guaranteed_kib: what it was promised; None: nothing, as far as is known
    :param stale_after: seconds after which its statistics say nothing any more
    """
    promised = max(0, int(guaranteed_kib or 0))
    if promised:
        promised += overhead_kib
    size, usable, age = (guest.number(name) for name in ("balloon_cur", "mem_usable", "stats_age"))
    if size is None or usable is None:
        return Need(None, promised, "its statistics are missing")
    if age is None or age > stale_after:
        return Need(None, promised, "its statistics have no age" if age is None else f"its statistics are {age:.0f} s old")
    return Need(max(promised, int(max(0, size - usable)) + overhead_kib), promised, "")
