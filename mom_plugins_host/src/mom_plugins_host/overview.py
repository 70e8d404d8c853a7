"""What `mom status` says of the host's memory."""

from __future__ import annotations

from collections.abc import Iterator

from mom_core import Report, StatusPart, format_kib


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
