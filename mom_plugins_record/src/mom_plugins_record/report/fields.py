"""The accounts' sums of now and of today, as fields of the host: for metrics and the web page. `mom report` defines them alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mom_core import FieldSpec, Metric, Scope, Unit, Value
from mom_plugins_record.report.accounts import GivenBack, HostHour

_NOW: Final = "as of the last cycle"

FIELDS: Final = tuple(
    FieldSpec(name, unit, Scope.HOST, what, "mom's accounts", metric)
    for name, unit, what, metric in (
        ("given_back_balloon", Unit.KIB, f"what guests once held and balloons keep now, {_NOW}", Metric.GAUGE),
        ("given_back_sweeps", Unit.KIB, f"what guests once held and hold no more without a balloon that keeps it, {_NOW}", Metric.GAUGE),
        ("given_back_ksm", Unit.KIB, f"what KSM saves, without empty pages, {_NOW}", Metric.GAUGE),
        (
            "given_back_cold",
            Unit.KIB,
            f"cold memory of guests that mom has moved to swap, less what compressing it takes, {_NOW}",
            Metric.GAUGE,
        ),
        ("given_back_today", Unit.KIB, "what was given back by all means, on average since midnight, UTC", Metric.GAUGE),
        ("waited_today", Unit.SECONDS, "how long guests have waited because of mom since midnight, UTC, at most", Metric.GAUGE),
        ("promise_broken_today", Unit.SECONDS, "for how long promises to guests were broken since midnight, UTC", Metric.GAUGE),
        ("killed_today", Unit.COUNT, "programs that guests' kernels have killed since midnight, UTC", Metric.GAUGE),
    )
)


def values_of(now: GivenBack | None, today: HostHour) -> Mapping[str, Value]:
    """The fields; what is unknown is None."""
    known: dict[str, Value] = {}
    if now is not None:
        known = {
            "given_back_balloon": int(now.balloon),
            "given_back_sweeps": int(now.sweeps),
            "given_back_cold": int(now.cold),
            "given_back_ksm": None if now.ksm is None else int(now.ksm),
        }
    if today.seconds:
        given = today.guests_by_balloon_kib_seconds + today.guests_by_sweeps_kib_seconds + today.guests_by_cold_kib_seconds
        known["given_back_today"] = int((given + today.ksm_kib_seconds) / today.seconds)
        known["waited_today"] = today.guests_waited_for_mom_seconds if today.guests_waiting_known_seconds else None
        known["promise_broken_today"] = today.guests_promise_broken_seconds
        known["killed_today"] = today.guests_killed if today.guests_killed_known_seconds else None
    return known
