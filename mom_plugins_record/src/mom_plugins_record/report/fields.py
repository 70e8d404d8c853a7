"""Host fields with the accounts' present sums and those of today, for metrics and the web page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from mom_core import FieldSpec, Metric, Scope, Unit, Value
from mom_plugins_record.report.accounts import GivenBack
from mom_plugins_record.report.hours import HostHour

_NOW: Final = "in the last cycle"

FIELDS: Final = tuple(
    FieldSpec(name, unit, Scope.HOST, description, "mom's accounts", Metric.GAUGE)
    for name, unit, description in (
        ("given_back_balloon", Unit.KIB, f"memory that guests once held, now in balloons, {_NOW}"),
        ("given_back_sweeps", Unit.KIB, f"memory that guests once held, returned by sweeps or free page reporting, {_NOW}"),
        ("given_back_ksm", Unit.KIB, f"memory that KSM saves, without empty pages, {_NOW}"),
        ("given_back_cold", Unit.KIB, f"cold memory of guests that mom moved to swap, less its compressed size, {_NOW}"),
        ("given_back_today", Unit.KIB, "average memory given back since midnight, UTC, by all means together"),
        ("waited_today", Unit.SECONDS, "longest time that guests waited because of mom since midnight, UTC, summed over guests"),
        ("promise_broken_today", Unit.SECONDS, "time of broken promises since midnight, UTC, summed over guests"),
        ("killed_today", Unit.COUNT, "OOM kills in guests since midnight, UTC"),
    )
)


def values_of(now: GivenBack | None, today: HostHour) -> Mapping[str, Value]:
    """Return the fields; unknown fields are None or absent."""
    values: dict[str, Value] = {
        f"given_back_{name}": None if kib is None else int(kib) for name, kib in (asdict(now) if now else {}).items()
    }
    if today.seconds:
        guests, given_back = today.guests, today.guests.given_back_kib_seconds
        sizes_known = guests.kib_seconds.sold > 0 or not today.guests_most
        in_all = given_back.balloon + given_back.sweeps + given_back.cold + today.ksm.kib_seconds
        values["given_back_today"] = int(in_all / today.seconds) if sizes_known else None
        values["waited_today"] = guests.harm.waited_for_mom_seconds if guests.harm.waiting_known_seconds else None
        values["promise_broken_today"] = guests.harm.promise_broken_seconds if sizes_known else None
        values["killed_today"] = guests.harm.killed if guests.harm.killed_known_seconds else None
    return values
