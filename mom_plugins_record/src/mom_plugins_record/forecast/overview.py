"""Forecasts in `mom status`, `mom guests` and the metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mom_core import GuestColumn, Report, Unit, format_kib

if TYPE_CHECKING:
    from mom_daemon import StatusPart

COLUMNS: Final = (
    GuestColumn(
        "expected", ("mem_used_expected",), Unit.KIB, "what it usually uses at this time of day and week", 24, 5,
        "mom_guest_memory_expected_bytes",
    ),
    GuestColumn(
        "expected soon", ("mem_used_expected_soon",), Unit.KIB, "the most that it is expected to use soon", 25, None,
        "mom_guest_memory_expected_soon_bytes",
    ),
    GuestColumn(
        "forecast error", ("mem_expected_error",), Unit.KIB, "what the forecast of its next hour was wrong by lately", 26, None,
        "mom_guest_forecast_error_bytes",
    ),
    GuestColumn(
        "forecast weight", ("mem_expected_weight",), Unit.RATIO, "how much its forecast counts: less on a day that differs", 27, None,
        "mom_guest_forecast_weight_ratio",
    ),
)  # fmt: skip


def forecast_parts(report: Report) -> Iterator[StatusPart]:
    """Yield how many guests have a pattern, and what is expected of them soon; nothing where none has."""
    from mom_daemon import StatusPart

    host = report.snapshot.host
    count, rise = host.number("guests_forecast"), host.number("host_rise_expected")
    if count:
        soon = f"; {format_kib(rise)} more expected soon" if rise else ""
        yield StatusPart("forecast", f"{count:.0f} of {len(report.snapshot.guests)} guests have a pattern{soon}")
