"""Times in operators' notation: `2026-11-20T08:00`, `10:32`, `5m ago`. Times without a zone are in UTC."""

from __future__ import annotations

import time as clock
from datetime import UTC, datetime, timedelta
from datetime import time as day_time

import click

from mom_core import parse_duration, printable

EXAMPLES = "2026-11-20T08:00, 10:32 or 5m ago"


def moment(text: str, option: str, now: float | None = None) -> float:
    """Parse a time into seconds since the epoch. A time of day means its last occurrence. Raise `click.UsageError` if invalid."""
    present = clock.time() if now is None else now
    try:
        seconds = _seconds(text.strip(), present)
        datetime.fromtimestamp(seconds, UTC)
        if seconds < 0:
            raise ValueError("before all clocks")
    except (ValueError, OverflowError, OSError):
        fault = f"{printable(text)!r} is not a time; write it as {EXAMPLES} (UTC, unless it names a time zone)"
        raise click.UsageError(f"{option}: {fault}") from None
    return seconds


def _seconds(text: str, present: float) -> float:
    if text.endswith("ago"):
        return present - parse_duration(text.removesuffix("ago").strip())
    if ":" in text[:3]:
        return _last(day_time.fromisoformat(f"0{text}" if text[1:2] == ":" else text), present)
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _last(of_day: day_time, present: float) -> float:
    zone = of_day.tzinfo or UTC
    last = datetime.combine(datetime.fromtimestamp(present, zone).date(), of_day.replace(tzinfo=zone))
    return (last if last.timestamp() <= present else last - timedelta(days=1)).timestamp()
