"""The host's local time, for policies that act by the hour. The only place here where the wall clock is read."""

from __future__ import annotations

import time

from mom_core import FieldSpec, Metric, Scope, Unit

_PARTS = {**dict.fromkeys(("year", "month", "day", "hour", "minute"), Unit.COUNT), "second": Unit.SECONDS, "microsecond": Unit.MICROSECONDS}

FIELDS = tuple(
    FieldSpec(f"time_{part}", unit, Scope.HOST, f"local time: {part}", "the system clock", Metric.NONE) for part, unit in _PARTS.items()
)


def time_fields(nanoseconds: int) -> dict[str, int]:
    """The parts of local time, `time_year` to `time_microsecond`, at so many nanoseconds since the epoch."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    local = time.localtime(seconds)
    # tm_sec goes to 61, for leap seconds that Linux does not show; a policy that compares with 59 should not meet them.
    parts = (local.tm_year, local.tm_mon, local.tm_mday, local.tm_hour, local.tm_min, min(local.tm_sec, 59), rest // 1000)
    return {spec.name: part for spec, part in zip(FIELDS, parts, strict=True)}
