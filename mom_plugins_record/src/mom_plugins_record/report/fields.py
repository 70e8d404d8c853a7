"""The accounts' sums of now and of today, as fields of the host: for metrics and the web page. `mom report` defines them alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from mom_core import FieldSpec, Metric, Scope, Unit, Value
from mom_plugins_record.report.accounts import GivenBack, HostHour

_NOW: Final = "as of the last cycle"

FIELDS: Final = tuple(
    FieldSpec(name, unit, Scope.HOST, what, "mom's accounts", Metric.GAUGE)
    for name, unit, what in (
        ("given_back_balloon", Unit.KIB, f"what guests once held and balloons keep now, {_NOW}"),
        ("given_back_sweeps", Unit.KIB, f"what guests once held and hold no more without a balloon that keeps it, {_NOW}"),
        ("given_back_ksm", Unit.KIB, f"what KSM saves, without empty pages, {_NOW}"),
        ("given_back_cold", Unit.KIB, f"cold memory of guests that mom has moved to swap, less what compressing it takes, {_NOW}"),
        ("given_back_today", Unit.KIB, "what was given back by all means, on average since midnight, UTC"),
        ("waited_today", Unit.SECONDS, "how long guests have waited because of mom since midnight, UTC, at most: the sum over all guests"),
        ("promise_broken_today", Unit.SECONDS, "for how long promises to guests were broken since midnight, UTC: the sum over all guests"),
        ("killed_today", Unit.COUNT, "programs that guests' kernels have killed since midnight, UTC"),
    )
)


def values_of(now: GivenBack | None, today: HostHour) -> Mapping[str, Value]:
    """Return the fields; what is unknown is None."""
    means = {} if now is None else asdict(now)
    known: dict[str, Value] = {f"given_back_{name}": None if kib is None else int(kib) for name, kib in means.items()}
    if today.seconds:
        given = today.guests_by_balloon_kib_seconds + today.guests_by_sweeps_kib_seconds + today.guests_by_cold_kib_seconds
        sizes_known = today.guests_sold_kib_seconds > 0 or not today.guest_seconds  # of some guest, or there was none
        known["given_back_today"] = int((given + today.ksm_kib_seconds) / today.seconds) if sizes_known else None
        known["waited_today"] = today.guests_waited_for_mom_seconds if today.guests_waiting_known_seconds else None
        known["promise_broken_today"] = today.guests_promise_broken_seconds if sizes_known else None
        known["killed_today"] = today.guests_killed if today.guests_killed_known_seconds else None
    return known
