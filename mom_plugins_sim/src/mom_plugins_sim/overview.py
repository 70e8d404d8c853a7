"""What `mom status` says of the simulated host: the same as of real ones."""

from __future__ import annotations

from collections.abc import Iterator

from mom_cli import StatusPart
from mom_core import Report, Unit


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
