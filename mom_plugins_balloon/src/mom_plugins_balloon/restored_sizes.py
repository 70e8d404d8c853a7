"""Size that a guest gets back when mom restores what it changed."""

from __future__ import annotations

import math
from typing import NamedTuple

from mom_core import NoChangeNeeded, Refused, format_kib
from mom_plugins_balloon.gate import ShrinkLimits, floor_kib, never_shrunk
from mom_plugins_balloon.memory import GuestMemory


class RestoredSize(NamedTuple):
    """Size in KiB to ask a guest for, and a note for the operator."""

    size: int
    note: str = ""
    keeps: bool = False
    """The guest keeps its present size."""


def restored_size(had: int, size: float | None, maximum: float | None, memory: GuestMemory | None, limits: ShrinkLimits) -> RestoredSize:
    """Return the size that a guest had before mom, as far as it can have it and uses no more.

    Raises `Refused` or `NoChangeNeeded` where the guest would shrink and its use is unknown.

    :param size: its present size; None: unknown, or it is swept
    :param maximum: its own maximum, whatever its control group has room for
    """
    floor = 0 if memory is None else math.ceil(max(floor_kib(memory, limits) or 0.0, memory.guarantee))
    floor = floor if maximum is None else min(floor, math.floor(maximum))
    if size is not None and had < size and (why := _why_unknown(memory, limits)):
        kept = f"it keeps the {format_kib(size)} that it has, more than before mom: {why}"
        reports = memory is not None and memory.statistics.usable is not None and memory.statistics.age is not None
        raise Refused(kept) if reports else NoChangeNeeded(kept)  # a guest that reports nothing will not report later
    restored = RestoredSize(had)
    if had < floor:
        uses = f"the guest uses more now than the {format_kib(had)} that it had before mom"
        if size is not None and size <= floor:
            return RestoredSize(had, f"{uses}, and keeps what it has", keeps=True)
        restored = RestoredSize(floor, f"{uses}: asked for {format_kib(floor)}")
    if memory is not None and memory.reach is not None and restored.size < memory.reach:
        least = math.ceil(memory.reach)
        note = f"memory was plugged into the guest since, which its balloon cannot take: asked for {format_kib(least)}"
        restored = RestoredSize(least, note)
    return restored


def _why_unknown(memory: GuestMemory | None, limits: ShrinkLimits) -> str:
    """Return why it is unknown how much a guest could spare now; empty: it is known."""
    if memory is None:
        return "what it uses is unknown"
    never = never_shrunk(memory, limits)
    return "" if never is None else never.words(memory, limits)
