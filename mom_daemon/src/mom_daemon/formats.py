"""Values as text: amounts for people, times as people type them, and JSON for programs."""

from __future__ import annotations

import json
import time as clock
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as day_time
from typing import Any

import click
from pydantic_core import PydanticSerializationError, to_json

from mom_core import Unit, format_kib, parse_duration, printable

LIST_SHOWN = 100

_LABELS = frozenset({"name", "path"})


def amount(value: object, unit: str = "") -> str:
    """Format a control's value on one line."""
    if value is None:
        return "unknown"
    if unit in {Unit.KIB, Unit.KIB_PER_SECOND} and isinstance(value, int | float):
        return format_kib(value) + ("/s" if unit == Unit.KIB_PER_SECOND else "")
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [item for item in value if isinstance(item, Mapping)]
        return printable("; ".join(f"{item.get('name', '')}: {_what_is_set(item) or 'none'}" for item in items), LIST_SHOWN) or "nothing"
    return printable(str(value)) if unit in {Unit.FLAG, Unit.COUNT, Unit.TEXT, ""} else f"{printable(str(value))} {unit}"


def _what_is_set(item: Mapping[str, Any]) -> str:
    members = [(key, _what_is_set(value) if isinstance(value, Mapping) else value) for key, value in item.items() if key not in _LABELS]
    return ", ".join(f"{key} {value}" for key, value in members if value)


# --- times ---------------------------------------------------------------------------------------------------------------------

EXAMPLES = "2026-11-20T08:00, 10:32 or 5m ago"


def moment(text: str | None, option: str, default: float, now: float | None = None) -> float:
    """Parse a time into seconds since the epoch; None into `default`. A time of day means its last occurrence.

    :raises click.UsageError: for an invalid time
    """
    if text is None:
        return default
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


# --- JSON ----------------------------------------------------------------------------------------------------------------------


def json_text(value: object) -> bytes:
    """Encode a value as JSON on one line. NaN and infinity become null."""
    try:
        return to_json(value, inf_nan_mode="null", fallback=_plain)
    except PydanticSerializationError:  # a name with half a surrogate pair, which only an ASCII escape can represent
        return json.dumps(value, separators=(",", ":"), default=_plain).encode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence) else str(value)
