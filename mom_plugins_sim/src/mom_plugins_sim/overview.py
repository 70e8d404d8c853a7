"""What `mom status` and `mom guests` say of the simulated host and its guests: the same as of real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mom_core import GuestColumn, Report, StatusPart, Unit, format_kib

COLUMNS: Final = (
    GuestColumn.of_field("has", "balloon_cur", Unit.KIB, 20),
    GuestColumn.of_field("of", "balloon_max", Unit.KIB, 21),
    GuestColumn.of_field("usable", "mem_usable", Unit.KIB, 40),
    GuestColumn.of_field("swapping in", "swap_in", Unit.KIB_PER_SECOND, 41, 2),
    GuestColumn.of_field("statistics", "stats_age", Unit.SECONDS, 42, 3, "{} old"),
)


def host_parts(report: Report) -> Iterator[StatusPart]:
    """How much memory there is, and how it is used."""
    fields = report.snapshot.host.fields
    for name, words, place in (("mem_available", "memory", 10), ("mem_really_available", "available", 11), ("swap_usage", "swapped", 30)):
        value = fields.get(name)
        if isinstance(value, int | float):
            yield StatusPart("host", f"{words} {format_kib(value)}", place)
    pressure = fields.get("psi_memory_some_avg10")
    if isinstance(pressure, int | float):
        yield StatusPart("host", f"memory pressure {pressure:.1f} %", 50)
