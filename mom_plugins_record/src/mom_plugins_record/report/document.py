"""A report as programs read it: JSON with units in the names, and a table for CSV. What is unknown is null, and an empty cell."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mom_plugins_record.export.files import cell
from mom_plugins_record.report.summary import GivenBackSums, Line, Percentiles, ReportSummary

KIB_PER_GIB: Final = float(1 << 20)

FORMAT: Final = 1
"""The version of the JSON document."""

KIB_SECONDS_PER_GIB_HOUR: Final = float(1 << 20) * 3600
"""What is told in GiB hours is kept in KiB times seconds."""

HOURS_A_MONTH: Final = 730.0
"""A twelfth of a year."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a GiB of memory costs in a month; None: the operator has not said."""

    each_gib_month: float | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Worth:
    """What was given back is worth: GiB months, money (None without a price), and hosts like this one (None where its size is not told)."""

    gib_months: float
    money: float | None
    hosts: float | None


def worth_of(summary: ReportSummary, price: Price) -> Worth | None:
    """By the least that was given back; None where nothing is known."""
    given = summary.whole.given
    if given is None or not summary.seconds:
        return None
    months = gib_hours(given.at_least) / HOURS_A_MONTH
    money = None if price.each_gib_month is None else months * price.each_gib_month
    total = summary.host.total if summary.host is not None else None
    return Worth(months, money, given.at_least / summary.seconds / total if total else None)


def gib(kib: float) -> float:
    """KiB as GiB."""
    return kib / KIB_PER_GIB


def gib_hours(kib_seconds: float) -> float:
    """KiB times seconds as GiB times hours."""
    return kib_seconds / KIB_SECONDS_PER_GIB_HOUR


def document(summary: ReportSummary, price: Price) -> dict[str, Any]:
    """The whole report."""
    worth = worth_of(summary, price)
    return {
        "format": FORMAT,
        "host_name": summary.host_name,
        "from": _moment(summary.since),
        "to": _moment(summary.until),
        "seen_hours": _hours(summary.seconds),
        "unknown_hours": _hours(max(0.0, summary.until - summary.since - summary.seconds)),
        "tenant": summary.tenant or None,
        "whole": _line(summary.whole),
        "by": summary.by,
        "lines": [_line(line) for line in summary.lines],
        "worth": None
        if worth is None
        else {
            "gib_months": _number(worth.gib_months),
            "price_per_gib_month": price.each_gib_month,
            "currency": price.currency or None,
            "money": _number(worth.money),
            "hosts": _number(worth.hosts),
        },
        "host": _host(summary),
        "growth": _growth(summary),
        "days": [
            {
                "day": _moment(day.number * 86_400.0)[:10],
                "sold_gib": _gib(day.sold),
                "held_gib": _gib(day.held),
                "by_balloon_gib": _gib(day.balloon),
                "by_sweeps_gib": _gib(day.sweeps),
                "by_cold_memory_gib": _gib(day.cold),
                "by_ksm_gib": _gib(day.ksm),
                "used_most_gib": _gib(day.used_most),
                "total_gib": _gib(day.total),
            }
            for day in summary.days
        ],
        "remarks": list(summary.remarks),
    }


def table(summary: ReportSummary) -> str:
    """CSV: a row for each line, and one for the whole."""
    rows = [_flat(_line(line)) for line in (*summary.lines, summary.whole)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _flat(content: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    def cells() -> Iterator[tuple[str, Any]]:
        for name, value in content.items():
            if isinstance(value, dict):
                yield from _flat(value, f"{before}{name}_").items()
            else:
                yield f"{before}{name}", value

    return dict(cells())


def _line(line: Line) -> dict[str, Any]:
    advice = line.advice
    return {
        "name": line.name,
        "id": line.id,
        "class": line.service_class or None,
        "guests": line.guests,
        "seen_guest_hours": _hours(line.seconds),
        "unknown_guest_hours": _hours(line.unknown_seconds),
        "sold_gib": _gib(line.sold),
        "had_gib": _gib(line.had),
        "held_gib": _gib(line.holds),
        "used_gib": _gib(line.uses),
        "held_by_a_guest": _percentiles(line.held),
        "used_by_a_guest": _percentiles(line.used),
        "worked_on_by_a_guest": _percentiles(line.worked),
        "sold_parts": _parts(line),
        "given_back": _given(line.given),
        "waited_seconds": _number(line.waited),
        "waited_for_mom_seconds": _number(line.waited_for_mom),
        "late_bursts": line.late_bursts,
        "killed": line.killed,
        "promise_kept_hours": _hours(line.promise_kept),
        "promise_broken_seconds": _number(line.promise_broken),
        "size": {
            "fit": advice.fit if advice else None,
            "would_do_gib": _gib(advice.would_do) if advice else None,
            "risk": _number(advice.risk) if advice else None,
            "hours": advice.hours if advice else None,
            "why": (advice.why or None) if advice else None,
        },
    }


def _parts(line: Line) -> dict[str, Any]:
    parts = line.parts
    names = ("sold", "held", "swapped", "ballooned", "untaken", "beyond")
    return {f"{name}_gib_hours": _number(gib_hours(getattr(parts, name))) if parts else None for name in names}


def _given(given: GivenBackSums | None) -> dict[str, Any]:
    names = {
        "by_balloon": "balloon",
        "by_sweeps": "sweeps",
        "by_cold_memory": "cold",
        "by_ksm": "ksm",
        "at_least": "at_least",
        "at_most": "at_most",
    }
    return {f"{name}_gib_hours": _gib_hours(getattr(given, attribute)) if given else None for name, attribute in names.items()}


def _percentiles(found: Percentiles | None) -> dict[str, Any]:
    return {f"{name}_gib": _gib(getattr(found, name)) if found else None for name in ("average", "p50", "p95", "p99", "most")}


def _host(summary: ReportSummary) -> dict[str, Any] | None:
    host = summary.host
    if host is None:
        return None
    return {
        "total_gib": _gib(host.total),
        "used": _percentiles(host.used),
        "available_least_gib": _gib(host.available_least),
        "wanted_gib": _gib(host.wanted),
        "guests_most": host.guests_most,
        "sold_most_gib": _gib(host.sold_most),
        "promised_most_gib": _gib(host.promised_most),
        "promisable_gib": _gib(host.promisable or None),
        "below_wanted_seconds": _number(host.below_wanted),
        "below_hard_seconds": _number(host.below_hard),
        "below_low_seconds": _number(host.below_low),
        "stalled_seconds": _number(host.stalled),
        "ksmd_cpu_seconds": _number(host.ksmd_cpu),
        "ksmd_known_hours": _hours(host.ksmd_seconds),
        "mom_cpu_seconds": _number(host.mom_cpu),
        "mom_known_hours": _hours(host.mom_seconds),
        "evictions": host.evictions,
        "cycles": host.cycles,
    }


def _growth(summary: ReportSummary) -> dict[str, Any] | None:
    growth = summary.growth
    if growth is None:
        return None
    last = summary.until
    return {
        "days": growth.days,
        "gib_each_week": _gib(None if growth.each_day is None else growth.each_day * 7),
        "gib_each_week_least": _gib(None if growth.least is None else growth.least * 7),
        "gib_each_week_most": _gib(None if growth.most is None else growth.most * 7),
        "full_on": None if growth.full_in is None else _moment(last + growth.full_in * 86_400)[:10],
        "full_on_earliest": None if growth.earliest is None else _moment(last + growth.earliest * 86_400)[:10],
        "why_unknown": growth.why or None,
    }


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _number(value: float | None) -> float | None:
    """With six digits that count: the accounts know no more."""
    return None if value is None else float(f"{value:.6g}")


def _gib(kib: float | None) -> float | None:
    return None if kib is None else _number(gib(kib))


def _gib_hours(kib_seconds: float | None) -> float | None:
    return None if kib_seconds is None else _number(gib_hours(kib_seconds))


def _hours(seconds: float) -> float | None:
    return _number(seconds / 3600)


def means(given: GivenBackSums) -> Sequence[tuple[str, float | None]]:
    """The means by which memory was given back, with their names for a person, and KiB times seconds."""
    return (
        ("balloon", given.balloon),
        ("sweeps, free page reporting", given.sweeps),
        ("equal pages (KSM)", given.ksm),
        ("cold memory", given.cold),
    )
