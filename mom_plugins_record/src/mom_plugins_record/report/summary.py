"""Sums the accounts up into what a report says. docs/report.md defines every number; sizes in KiB, times in seconds."""

from __future__ import annotations

import fnmatch
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

from mom_plugins_record.report.accounts import HOUR, GuestHour, HostHour
from mom_plugins_record.report.growth import Growth, growth_of
from mom_plugins_record.report.sizes import SizeAdvice, advise
from mom_plugins_record.report.spread import percentile

DAY_HOURS: Final = 24

SHORT: Final = 3 * 86_400.0
"""Seconds; in a shorter time, hours are looked at, as days are too few to see anything."""

SEEN_SHARE: Final = 0.5
"""Of an hour, what must have been seen of a guest's use for its peak to count."""

Number = int | float


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of the size of one guest, or of each of several, over time, in KiB: percentiles are at most 4.4 % too high, the others exact."""

    average: float
    p50: float
    p95: float
    p99: float
    most: float | None = None


@dataclass(frozen=True, slots=True)
class GivenBackSums:
    """KiB times seconds that the host had back, by each means. None: unknown.

    `at_least` is their sum: guests would still hold what they have ever touched. `at_most`: they would hold all that they were sold.
    """

    balloon: float
    sweeps: float
    cold: float
    ksm: float | None
    at_least: float
    at_most: float


@dataclass(frozen=True, slots=True)
class SoldParts:
    """Where what was sold has been, in KiB times seconds: `sold` is the sum of the others, less `beyond`, which processes held beside."""

    sold: float
    held: float
    swapped: float
    ballooned: float
    untaken: float
    beyond: float


@dataclass(frozen=True, slots=True)
class Line:
    """A guest, the guests of a class, or all that the report is about.

    `seconds` and `unknown_seconds` are guests times time. `sold`, `had`, `holds` and `uses` are averages over the time that was seen, of
    all guests together (`uses`: of those that tell); the percentiles are of single guests.
    """

    name: str
    id: str = ""
    service_class: str = ""
    guests: int = 1
    seconds: float = 0.0
    unknown_seconds: float = 0.0
    sold: float | None = None
    had: float | None = None
    holds: float | None = None
    uses: float | None = None
    held: Percentiles | None = None
    used: Percentiles | None = None
    worked: Percentiles | None = None
    parts: SoldParts | None = None
    given: GivenBackSums | None = None
    waited: float | None = None
    waited_for_mom: float | None = None
    late_bursts: int | None = None
    killed: int | None = None
    promise_kept: float = 0.0
    promise_broken: float = 0.0
    advice: SizeAdvice | None = None


@dataclass(frozen=True, slots=True)
class HostLine:
    """The host: KiB, seconds, counts. None: unknown."""

    total: float | None
    used: Percentiles | None
    wanted: float | None
    available_least: float | None
    guests_most: int
    sold_most: float
    promised_most: float
    promisable: float
    below_wanted: float | None
    below_hard: float | None
    below_low: float | None
    stalled: float | None
    ksmd_cpu: float | None
    ksmd_seconds: float
    mom_cpu: float | None
    mom_seconds: float
    evictions: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Span:
    """A day, UTC, or an hour, by its number since the epoch: KiB on average, and the most that was used on the host. None: unknown."""

    number: int
    sold: float
    held: float
    balloon: float
    sweeps: float
    cold: float
    ksm: float | None
    used_most: float
    total: float


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """What a report says. `host` and `growth` are None where it is about one tenant: they tell of the others, too."""

    host_name: str
    since: float
    until: float
    seconds: float
    unknown_seconds: float
    whole: Line
    lines: Sequence[Line]
    by: str
    tenant: str
    host: HostLine | None
    growth: Growth | None
    days: Sequence[Span]
    hours: Sequence[Span]
    """Of a short time; empty for a longer one."""
    remarks: Sequence[str] = ()


@dataclass(slots=True)
class _Guest:
    """A guest over all hours."""

    total: GuestHour
    peaks: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class _HourNeeds:
    """All guests of one hour, in KiB times seconds: what they need at least, and what of it the host was seen to give them."""

    needed: float = 0.0
    held: float = 0.0


@dataclass(slots=True)
class _SpanSums:
    seconds: float = 0.0
    sold: float = 0.0
    held: float = 0.0
    balloon: float = 0.0
    sweeps: float = 0.0
    cold: float = 0.0
    ksm: float = 0.0
    ksm_known: float = 0.0
    used_most: float = 0.0
    total: float = 0.0


def _summed(kind: type[GuestHour] | type[HostHour]) -> list[str]:
    names = [one.name for one in fields(kind)]
    return [name for name in names if name.endswith("seconds") or name in {"late_bursts", "killed", "cycles", "evictions", "guests_killed"}]


GUEST_SUMS: Final = _summed(GuestHour)
HOST_SUMS: Final = _summed(HostHour)
_SPREADS: Final = ("used_spread", "held_spread", "worked_spread")


def summary_of(
    hosts: Iterable[HostHour],
    guests: Iterable[GuestHour],
    since: float,
    until: float,
    *,
    by: str = "class",
    tenant: str = "",
    remarks: Sequence[str] = (),
) -> ReportSummary:
    """Sum these hours up.

    :param since: seconds since the epoch, as `until`
    :param by: `class`, `guest` or `host`: what has a line of its own
    :param tenant: a pattern of names of guests: only these count, and nothing is said of the host
    """
    hours = _by_hour(hosts)
    host = HostHour(0)
    spans: dict[int, dict[int, _SpanSums]] = {each: {} for each in ((DAY_HOURS, 1) if until - since < SHORT else (DAY_HOURS,))}
    for hour in hours:
        _add_host(host, hour)
        for each, sums in spans.items():
            span = sums.setdefault(hour.hour // each, _SpanSums())
            span.seconds += hour.seconds
            span.ksm += hour.ksm_kib_seconds
            span.ksm_known += hour.ksm_known_seconds
            span.used_most = max(span.used_most, hour.used_most_kib)
            span.total = hour.total_kib or span.total
    found: dict[str, _Guest] = {}
    needs: dict[int, _HourNeeds] = {}
    for row in guests:
        if tenant and not fnmatch.fnmatchcase(row.name, tenant):
            continue
        one = found.get(row.id)
        if one is None:
            one = found[row.id] = _Guest(GuestHour(0, row.id, row.name))
        _add_guest(one.total, row)
        if row.used_known_seconds >= SEEN_SHARE * HOUR:
            one.peaks.append(row.used_most_kib)
        for each, sums in spans.items():
            span = sums.setdefault(row.hour // each, _SpanSums())
            span.sold += row.sold_kib_seconds
            span.held += row.held_kib_seconds
            span.balloon += row.by_balloon_kib_seconds
            span.sweeps += row.by_sweeps_kib_seconds
            span.cold += row.by_cold_kib_seconds
        need = needs.setdefault(row.hour, _HourNeeds())
        need.held += row.held_kib_seconds
        known = row.used_known_seconds / row.seconds if row.seconds else 0.0
        need.needed += row.used_kib_seconds + (1 - known) * row.held_kib_seconds
    seconds = host.seconds
    whole = GuestHour(0, "", "all")
    for one in found.values():
        _add_guest(whole, one.total)
    whole.service_class = common.pop() if len(common := {one.total.service_class for one in found.values()}) == 1 else ""
    ksm = _whole_ksm(host, whole, tenant)
    return ReportSummary(
        hours[-1].name if hours else "",
        since,
        until,
        seconds,
        host.unknown_seconds,
        _line(whole, len(found), seconds, ksm),
        _lines(found.values(), seconds, by),
        by,
        tenant,
        None if tenant else _host_line(host),
        None if tenant else growth_of(_needed_by_day(hours, needs), host.total_kib - host.wanted_kib if host.wanted_kib else None),
        [] if tenant else _spans(spans[DAY_HOURS]),
        [] if tenant else _spans(spans.get(1, {})),
        remarks,
    )


def _by_hour(hosts: Iterable[HostHour]) -> list[HostHour]:
    """One row for each hour: a mom that was restarted within it has kept two."""
    hours: dict[int, HostHour] = {}
    for row in hosts:
        into = hours.setdefault(row.hour, HostHour(row.hour))
        _add_host(into, row)
        into.name = row.name
        into.began, into.ended = into.began or row.began, max(into.ended, row.ended)
    return list(hours.values())


def _whole_ksm(host: HostHour, whole: GuestHour, tenant: str) -> float | None:
    if tenant:  # what all guests save together is none of one customer's figures
        return whole.merged_kib_seconds if whole.merged_known_seconds else None
    return host.ksm_kib_seconds if host.ksm_known_seconds else None


def _lines(found: Iterable[_Guest], seconds: float, by: str) -> list[Line]:
    if by == "guest":
        lines = [_guest_line(one) for one in found]
        return sorted(lines, key=lambda line: -_spare(line))
    if by == "host":
        return []
    classes: dict[str, tuple[GuestHour, list[_Guest]]] = {}
    for one in found:
        name = one.total.service_class
        total, members = classes.setdefault(name, (GuestHour(0, "", name or "without a class", name), []))
        _add_guest(total, one.total)
        members.append(one)
    return [
        _line(total, len(members), seconds, total.merged_kib_seconds if total.merged_known_seconds else None)
        for _, (total, members) in sorted(classes.items())
    ]


def _guest_line(one: _Guest) -> Line:
    total = one.total
    besides = total.waited_seconds - total.waited_for_mom_seconds
    advice = advise(total.sold_kib, one.peaks, besides, total.waiting_known_seconds, total.killed)
    return _line(total, 1, total.seconds, total.merged_kib_seconds if total.merged_known_seconds else None, advice)


def _spare(line: Line) -> float:
    """What a guest was sold beyond what would do, in KiB; those of which nothing is known come last."""
    if line.advice is None or line.advice.would_do is None or line.sold is None:
        return -1e18
    return line.sold - line.advice.would_do


def _line(total: GuestHour, guests: int, seconds: float, ksm: float | None, advice: SizeAdvice | None = None) -> Line:
    """:param seconds: over which averages are taken: the time that was seen of a guest, or of the host for several of them"""
    if not total.seconds or not seconds:
        return Line(total.name, total.id, total.service_class, guests, 0.0, total.unknown_seconds, advice=advice)
    at_least = total.by_balloon_kib_seconds + total.by_sweeps_kib_seconds + total.by_cold_kib_seconds + (ksm or 0.0)
    at_most = total.ballooned_kib_seconds + total.untaken_kib_seconds + total.by_cold_kib_seconds + (ksm or 0.0)
    return Line(
        total.name,
        total.id,
        total.service_class,
        guests,
        total.seconds,
        total.unknown_seconds,
        total.sold_kib_seconds / seconds,
        total.had_kib_seconds / seconds,
        total.held_kib_seconds / seconds,
        total.used_kib_seconds / seconds if total.used_known_seconds else None,
        _percentiles(total.held_spread, total.held_kib_seconds / total.seconds),
        _percentiles(total.used_spread, _ratio(total.used_kib_seconds, total.used_known_seconds), total.used_most_kib),
        _percentiles(total.worked_spread, _ratio(total.worked_kib_seconds, total.worked_known_seconds)),
        SoldParts(
            total.sold_kib_seconds,
            total.held_kib_seconds,
            total.swapped_kib_seconds,
            total.ballooned_kib_seconds,
            total.untaken_kib_seconds,
            total.beyond_kib_seconds,
        ),
        GivenBackSums(
            total.by_balloon_kib_seconds,
            total.by_sweeps_kib_seconds,
            total.by_cold_kib_seconds,
            ksm,
            at_least,
            max(at_least, at_most),
        ),
        total.waited_seconds if total.waiting_known_seconds else None,
        total.waited_for_mom_seconds if total.waiting_known_seconds else None,
        total.late_bursts if total.waiting_known_seconds else None,
        total.killed if total.killed_known_seconds else None,
        total.promise_kept_seconds,
        total.promise_broken_seconds,
        advice,
    )


def _ratio(sum_of: float, of: float) -> float:
    return sum_of / of if of else 0.0


def _percentiles(spread: Mapping[int, float], average: float, most: float | None = None) -> Percentiles | None:
    p50, p95, p99 = (percentile(spread, share) for share in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return None
    if most is not None:  # an edge of a bin may lie beyond what was ever seen
        p50, p95, p99 = (min(one, most) for one in (p50, p95, p99))
    return Percentiles(average, p50, p95, p99, most)


def _add_guest(total: GuestHour, row: GuestHour) -> None:
    for name in GUEST_SUMS:
        more = getattr(row, name)
        if more:
            setattr(total, name, getattr(total, name) + more)
    for name in _SPREADS:
        into: dict[int, float] = getattr(total, name)
        for number, seconds in getattr(row, name).items():
            into[number] = into.get(number, 0.0) + seconds
    total.used_most_kib = max(total.used_most_kib, row.used_most_kib)
    total.sold_kib = row.sold_kib or total.sold_kib
    total.service_class = row.service_class or total.service_class
    if row.hour:
        total.name = row.name


def _add_host(total: HostHour, row: HostHour) -> None:
    for name in HOST_SUMS:
        setattr(total, name, getattr(total, name) + getattr(row, name))
    for number, seconds in row.used_spread.items():
        total.used_spread[number] = total.used_spread.get(number, 0.0) + seconds
    for name in ("guests_most", "used_most_kib", "sold_most_kib", "promised_most_kib"):
        setattr(total, name, max(getattr(total, name), getattr(row, name)))
    for name in ("total_kib", "wanted_kib", "promisable_kib"):
        setattr(total, name, getattr(row, name) or getattr(total, name))


def _host_line(host: HostHour) -> HostLine:
    known = host.memory_known_seconds
    used = _percentiles(host.used_spread, _ratio(host.total_kib_seconds - host.available_kib_seconds, known), host.used_most_kib)
    limits = host.limits_known_seconds
    return HostLine(
        host.total_kib or None,
        used,
        host.wanted_kib or None,
        host.total_kib - host.used_most_kib if known else None,
        host.guests_most,
        host.sold_most_kib,
        host.promised_most_kib,
        host.promisable_kib,
        host.below_wanted_seconds if limits else None,
        host.below_hard_seconds if limits else None,
        host.below_low_seconds if limits else None,
        host.stalled_seconds if host.stalled_known_seconds else None,
        host.ksmd_cpu_seconds if host.ksmd_known_seconds else None,
        host.ksmd_known_seconds,
        host.mom_cpu_seconds if host.mom_known_seconds else None,
        host.mom_known_seconds,
        host.evictions,
        host.cycles,
    )


def _needed_by_day(hours: Sequence[HostHour], needs: Mapping[int, _HourNeeds]) -> list[tuple[float, float]]:
    """The most that the host needed in any hour of each day: what guests use, and what the host holds beside them."""
    days: dict[int, float] = {}
    for hour in hours:
        need = needs.get(hour.hour)
        if need is None or hour.seconds < SEEN_SHARE * HOUR or not hour.memory_known_seconds:
            continue
        ksm = hour.ksm_kib_seconds / hour.ksm_known_seconds if hour.ksm_known_seconds else 0.0
        used = (hour.total_kib_seconds - hour.available_kib_seconds) / hour.memory_known_seconds
        besides = max(0.0, used + ksm - need.held / hour.seconds)
        day = hour.hour // DAY_HOURS
        days[day] = max(days.get(day, 0.0), need.needed / hour.seconds + besides)
    return [(float(day), needed) for day, needed in sorted(days.items())]


def _spans(found: Mapping[int, _SpanSums]) -> list[Span]:
    return [_span(number, one) for number, one in sorted(found.items()) if one.seconds]


def _span(number: int, one: _SpanSums) -> Span:
    seconds = one.seconds
    return Span(
        number,
        one.sold / seconds,
        one.held / seconds,
        one.balloon / seconds,
        one.sweeps / seconds,
        one.cold / seconds,
        one.ksm / one.ksm_known if one.ksm_known else None,
        one.used_most,
        one.total,
    )
