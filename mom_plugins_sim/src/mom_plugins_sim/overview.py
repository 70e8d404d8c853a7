"""What `mom status` and `mom guests` say of the simulated host and its guests: the same as of real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mom_core import Report, Unit
from mom_toolkit import GuestColumn, StatusPart

COLUMNS: Final = (
    GuestColumn.of_field("has", "balloon_cur", Unit.KIB, 20),
    GuestColumn.of_field("of", "balloon_max", Unit.KIB, 21),
    GuestColumn.of_field("usable", "mem_usable", Unit.KIB, 40),
    GuestColumn.of_field("swapping in", "swap_in", Unit.KIB_PER_SECOND, 41, 2),
    GuestColumn.of_field("statistics", "stats_age", Unit.SECONDS, 42, 3, "{} old"),
)


def host_parts(report: Report) -> Iterator[StatusPart]:
    """How much memory there is, and how it is used."""
    return StatusPart.of_fields(
        report,
        "host",
        ("mem_available", "memory {}", Unit.KIB, 10),
        ("mem_really_available", "available {}", Unit.KIB, 11),
        ("swap_usage", "swapped {}", Unit.KIB, 30),
        ("psi_memory_some_avg10", "memory pressure {:.1f} %", Unit.PERCENT, 50),
    )
