"""What plugins add to `mom status` and `mom guests`: parts of lines about the host, and columns of the table of guests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from mom_core import Report, Unit, Value, format_kib


@dataclass(frozen=True, slots=True)
class StatusPart:
    """A few words below a heading of `mom status`, such as `available 3.00 GiB` of `host`. Parts of one heading stand on one line;
    what several plugins say, as two do that collect one field, stands there once.

    :param place: its place among the others on the line, and the line's among the lines; the smaller first
    """

    heading: str
    text: str
    place: int = 50

    @classmethod
    def of_fields(cls, report: Report, heading: str, *fields: tuple[str, str, Unit, int]) -> Iterator[StatusPart]:
        """Parts with fields of the host that are numbers; one that is unknown has none.

        :param fields: of each its name, what stands around it (`available {}`), its unit, and its place
        """
        for name, form, unit, place in fields:
            value = report.snapshot.host.number(name)
            if value is not None:
                yield cls(heading, form.format(format_kib(value) if unit is Unit.KIB else value), place)


@dataclass(frozen=True, slots=True)
class GuestColumn:
    """A column of `mom guests`. Where several plugins have one of a heading, the first plugin's counts; `remarks` of all are joined.

    :param text: what stands in a guest's row, by its fields; a column that is empty in all rows is left out
    :param place: its place among the columns; the smaller first
    :param rank: where a terminal is too narrow, columns of the highest rank are left out first; those of rank 0 stay
    :param legend: what is said below the table where the column is shown
    """

    heading: str
    text: Callable[[Mapping[str, Value]], str]
    place: int = 50
    rank: int = 0
    legend: str = ""

    @classmethod
    def of_field(cls, heading: str, field: str, unit: Unit, place: int, rank: int = 0, form: str = "{}") -> GuestColumn:
        """A column with a field that is a number; `?` where it is unknown.

        :param form: what stands around the number and its unit
        """

        def text(fields: Mapping[str, Value]) -> str:
            value = fields.get(field)
            if not isinstance(value, int | float):
                return "?"
            return form.format(format_kib(value) if unit is Unit.KIB else f"{value:,.0f} {unit}")

        return cls(heading, text, place, rank)


REMARKS = "remarks"
"""The heading of the column of prose at the end."""
