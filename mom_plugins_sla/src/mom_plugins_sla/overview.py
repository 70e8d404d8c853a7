"""Classes in `mom status` and `mom guests`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mom_core import GuestColumn, Report, Unit, printable

if TYPE_CHECKING:
    from mom_daemon import StatusPart


def class_parts(report: Report) -> Iterator[StatusPart]:
    """Yield how many guests are of which class, the most frequent first; nothing where no guest has one."""
    from mom_daemon import StatusPart

    counted = Counter(guest.fields.get("sla_class") for guest in report.snapshot.guests.values())
    without = counted.pop(None, 0)
    if counted:
        parts = [f"{count} {printable(str(name), 60)}" for name, count in counted.most_common()]
        yield StatusPart("classes", ", ".join([*parts, *([f"{without} of none"] if without else [])]))


COLUMNS: Final = (GuestColumn("class", ("sla_class",), Unit.TEXT, "its service class", 10, 1),)
