"""Parts that plugins add to lines of `mom status`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mom_core import Report, Unit, format_kib


@dataclass(frozen=True, slots=True)
class StatusPart:
    """Words under a heading of `mom status`. The smallest `place` comes first."""

    heading: str
    text: str
    place: int = 50

    @classmethod
    def of_fields(cls, report: Report, heading: str, *fields: tuple[str, str, Unit, int]) -> Iterator[StatusPart]:
        """Yield a part for each of these host fields that is a known number.

        :param fields: name, text around the value (`available {}`), unit, and place of each field
        """
        for name, form, unit, place in fields:
            value = report.snapshot.host.number(name)
            if value is not None:
                yield cls(heading, form.format(format_kib(value) if unit is Unit.KIB else value), place)

    @classmethod
    def of_memory(cls, report: Report) -> Iterator[StatusPart]:
        """Yield parts on the host's memory, real or simulated."""
        return cls.of_fields(
            report,
            "host",
            ("mem_available", "memory {}", Unit.KIB, 10),
            ("mem_really_available", "available {}", Unit.KIB, 11),
            ("swap_usage", "swapped {}", Unit.KIB, 30),
            ("psi_memory_some_avg10", "memory pressure {:.1f} %", Unit.PERCENT, 50),
        )
