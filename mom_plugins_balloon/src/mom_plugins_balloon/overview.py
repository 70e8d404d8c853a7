"""Promises and watermarks in `mom status`, and the columns of promises in lists of guests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mom_core import GuestColumn, Report, Unit, format_kib
from mom_plugins_balloon.names import OBSTACLE
from mom_plugins_balloon.promises import SOURCES, guaranteed_kib, promised_kib

if TYPE_CHECKING:
    from mom_daemon import StatusPart


def host_parts(report: Report) -> Iterator[StatusPart]:
    """Yield the high watermark, the state of the host's memory, and the memory reserved for launches."""
    from mom_daemon import StatusPart

    host = report.snapshot.host
    high, state, reserved = host.number("mem_watermark_high"), host.text("host_memory_state"), host.number("mem_reserved")
    if high is not None:
        means = "" if state is None else " (plenty of memory)" if state == "high" else f" (short of memory: {state})"
        yield StatusPart("host", f"wanted {format_kib(high)}{means}", 20)
    if reserved:
        yield StatusPart("host", f"reserved for launches {format_kib(reserved)}", 40)


COLUMNS: Final = (
    GuestColumn(
        "guarantee", SOURCES, Unit.KIB, "its guarantee: mom does not make it smaller", 30, 2,
        metric="mom_guest_guaranteed_bytes", made=guaranteed_kib,
    ),
    GuestColumn(
        "promise", SOURCES, Unit.KIB, "its promise, also the part that the host cannot keep", 31, 4, "mom_guest_promised_bytes",
        made=promised_kib,
    ),
    GuestColumn(GuestColumn.REMARKS, (OBSTACLE,), Unit.TEXT, "why it gives no memory"),
)  # fmt: skip
