"""The columns of `mom guests` with what the hypervisor says of guests' memory."""

from __future__ import annotations

from typing import Final

from mom_core import Unit
from mom_toolkit import GuestColumn

COLUMNS: Final = (
    GuestColumn.of_field("has", "balloon_cur", Unit.KIB, 20),
    GuestColumn.of_field("of", "balloon_max", Unit.KIB, 21),
    GuestColumn.of_field("usable", "mem_usable", Unit.KIB, 40),
    GuestColumn.of_field("swapping in", "swap_in", Unit.KIB_PER_SECOND, 41, 2),
    GuestColumn.of_field("statistics", "stats_age", Unit.SECONDS, 42, 3, "{} old"),
)
