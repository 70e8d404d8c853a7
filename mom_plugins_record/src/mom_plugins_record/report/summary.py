"""Sums the accounts up into what a report says. docs/report.md defines every number.

The names of the fields, which say their units, are those of the JSON document and of the columns of CSV. None: unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Final

from mom_core import Guest, GuestPattern
from mom_kvm import RecordedPoint
from mom_plugins_record.report.accounts import HOUR, GuestHour, HostHour
from mom_plugins_record.report.growth import Growth, growth_of
from mom_plugins_record.report.sizes import KIB_PER_GIB, NO_ADVICE, SizeAdvice, advise
from mom_plugins_record.report.spread import percentile

KIB_SECONDS_PER_GIB_HOUR: Final = KIB_PER_GIB * 3600

HOURS_A_MONTH: Final = 730.0
"""A twelfth of a year."""

DAY_HOURS: Final = 24

SHORT: Final = 3 * 86_400.0
"""Seconds; in a shorter time, hours are looked at, as days are too few to see anything."""

WHOLE_DAY_HOURS: Final = 20
"""Of a day, what must have been seen for its most to count as that of a day: the first and the last one of a report are parts of days, and
a morning beside whole days looks as if less were needed."""

SEEN_SHARE: Final = 0.5
"""Of an hour, what must have been seen of a guest's use for it to count as evidence that the guest needs no more."""


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a GiB of memory for a month; None: the operator has not said."""

    each_gib_month: float | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of the size of one guest, or of each of several, over time: percentiles are at most 4.4 % too high, the others exact."""

    average_gib: float | None = None
    p50_gib: float | None = None
    p95_gib: float | None = None
    p99_gib: float | None = None
    most_gib: float | None = None


@dataclass(frozen=True, slots=True)
class SoldParts:
    """Where what was sold has been: `sold` is the sum of the others, less `beyond`, which processes held beside."""

    sold_gib_hours: float | None = None
    held_gib_hours: float | None = None
    swapped_gib_hours: float | None = None
    ballooned_gib_hours: float | None = None
    untaken_gib_hours: float | None = None
    beyond_gib_hours: float | None = None


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Memory that the host had back, by each means.

    `at_least` is their sum: guests would still hold what they have ever touched. `at_most`: they would hold all that they were sold.
    """

    by_balloon_gib_hours: float | None = None
    by_sweeps_gib_hours: float | None = None
    by_cold_memory_gib_hours: float | None = None
    by_ksm_gib_hours: float | None = None
    at_least_gib_hours: float | None = None
    at_most_gib_hours: float | None = None


@dataclass(frozen=True, slots=True)
class ReportLine:
    """Guest, the guests of a class or of one property, or all that the report is about.

    Hours are guests times time. `sold`, `had`, `held` and `used` are averages over the time that was seen, of all guests together (`used`:
    of those that tell); the percentiles are of single guests.
    """

    name: str
    id: str = ""
    service_class: str = ""
    guests: int = 1
    seen_guest_hours: float = 0.0
    unknown_guest_hours: float = 0.0
    sold_gib: float | None = None
    had_gib: float | None = None
    held_gib: float | None = None
    used_gib: float | None = None
    held_by_a_guest: Percentiles = Percentiles()
    used_by_a_guest: Percentiles = Percentiles()
    worked_on_by_a_guest: Percentiles = Percentiles()
    sold_parts: SoldParts = SoldParts()
    given_back: GivenBack = GivenBack()
    waited_seconds: float | None = None
    waited_for_mom_seconds: float | None = None
    late_bursts: int | None = None
    killed: int | None = None
    promise_kept_hours: float = 0.0
    promise_broken_seconds: float = 0.0
    size: SizeAdvice = NO_ADVICE
    waiting_known_guest_hours: float = 0.0
    killed_known_guest_hours: float = 0.0

    @property
    def waited_for_mom_percent(self) -> float | None:
        """Of the time of which it is known whether guests waited; None: of none."""
        known, waited = self.waiting_known_guest_hours, self.waited_for_mom_seconds
        return None if waited is None or not known else 100 * waited / HOUR / known

    @property
    def promise_kept_percent(self) -> float | None:
        """Of the time for which guests were promised something; None: nothing was promised."""
        promised = self.promise_kept_hours * HOUR + self.promise_broken_seconds
        return 100 * self.promise_kept_hours * HOUR / promised if promised else None


@dataclass(frozen=True, slots=True)
class HostLine:
    """Host."""

    total_gib: float | None
    used: Percentiles
    available_least_gib: float | None
    wanted_gib: float | None
    guests_most: int
    sold_most_gib: float
    promised_most_gib: float
    promisable_gib: float | None
    below_wanted_seconds: float | None
    below_hard_seconds: float | None
    below_low_seconds: float | None
    stalled_seconds: float | None
    ksmd_cpu_seconds: float | None
    ksmd_known_hours: float
    mom_cpu_seconds: float | None
    mom_known_hours: float
    evictions: int
    cycles: int


@dataclass(frozen=True, slots=True)
class ForecastLine:
    """What forecasts of guests' next hour were wrong by, all guests with a pattern together, on average; and what it would have been if
    they had been expected to stay as they were."""

    wrong_by_gib: float
    as_now_wrong_by_gib: float


@dataclass(frozen=True, slots=True)
class Span:
    """Day, UTC, or an hour, from `begins` on (seconds since the epoch): averages, and the most that was used on the host."""

    begins: float
    sold_gib: float
    held_gib: float
    by_balloon_gib: float
    by_sweeps_gib: float
    by_cold_memory_gib: float
    by_ksm_gib: float | None
    used_most_gib: float | None
    total_gib: float | None


@dataclass(frozen=True, slots=True)
class Worth:
    """Worth of what was given back at least: money where there is a price, and hosts like this one where its size is known."""

    gib_months: float
    price_per_gib_month: float | None
    currency: str
    money: float | None
    hosts: float | None


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """Report's content. `host` and `growth` are None where it is about one tenant: they tell of the others, too."""

    host_name: str
    since: float
    until: float
    seen_hours: float
    unknown_hours: float
    tenant: str
    whole: ReportLine
    by: str
    lines: Sequence[ReportLine]
    worth: Worth | None
    host: HostLine | None
    growth: Growth | None
    days: Sequence[Span]
    hours: Sequence[Span]
    """Of a short time; empty for a longer one."""
    remarks: Sequence[str] = ()
    forecast: ForecastLine | None = None


def _summed(kind: type[GuestHour] | type[HostHour]) -> list[str]:
    names = [field.name for field in fields(kind)]
    return [name for name in names if name.endswith("seconds") or name in {"late_bursts", "killed", "cycles", "evictions", "guests_killed"}]


GUEST_SUMS: Final = _summed(GuestHour)
HOST_SUMS: Final = _summed(HostHour)
_SPREADS: Final = ("used_spread", "held_spread", "worked_spread")


@dataclass(frozen=True, slots=True)
class AccountedHours:
    """Hours of accounts, oldest first, the time that they are of (seconds since the epoch), and what is to be said of them."""

    hosts: Sequence[HostHour]
    guests: Iterable[GuestHour]
    since: float
    until: float
    remarks: Sequence[str] = ()
    forecast: ForecastLine | None = None
    minutes: Sequence[RecordedPoint] = ()
    """The host by minutes, where the time is too short for plots by hours."""


def summary_of(account: AccountedHours, by: str = "class", tenant: str = "", price: Price = Price()) -> ReportSummary:
    """Sum these hours up.

    :param by: what has a line of its own: `class`, `guest`, `host`, or a property that guests' platforms give them, such as `project`
    :param tenant: a pattern of guests, as of `GuestPattern`: only these count, and nothing is said of the host
    """
    since, until = account.since, account.until
    hours = [total_of(of) for _, of in groupby(account.hosts, lambda row: row.hour)]  # a mom that was restarted has kept two rows of entry
    host = total_of(hours)
    found: dict[str, GuestHour] = {}
    classes: dict[str, GuestHour] = {}
    members: defaultdict[str, set[str]] = defaultdict(set)
    seen: defaultdict[str, int] = defaultdict(int)
    needs: defaultdict[int, float] = defaultdict(float)
    wanted = GuestPattern.of(tenant) if tenant else None
    for row in account.guests:
        if wanted is not None and not wanted.matches(Guest(row.id, row.name, properties=row.properties)):
            continue
        _add_guest(found.setdefault(row.id, GuestHour(0, row.id, row.name)), row)
        if by not in {"guest", "host"}:  # an hour is the class's that the guest had then
            name = row.service_class if by == "class" else _text_of(row.properties.get(by, ""))
            _add_guest(classes.setdefault(name, GuestHour(0, "", "")), row)
            members[name].add(row.id)
        if row.used_known_seconds >= SEEN_SHARE * HOUR:
            seen[row.id] += 1
        known = row.used_known_seconds / row.seconds if row.seconds else 0.0
        needs[row.hour] += row.used_kib_seconds + (1 - known) * row.held_kib_seconds
    whole = GuestHour(0, "", "all")
    for entry in found.values():
        _add_guest(whole, entry)
    whole.service_class = common.pop() if len(common := {item.service_class for item in found.values()}) == 1 else ""
    line = _line(whole, len(found), host.seconds, _merged(whole) if tenant else _known(host.ksm_kib_seconds, host.ksm_known_seconds))
    return ReportSummary(
        host.name,
        since,
        until,
        host.seconds / HOUR,
        max(0.0, until - since - host.seconds) / HOUR,
        tenant,
        line,
        by,
        _lines(found.values(), seen) if by == "guest" else _class_lines(classes, members, host.seconds, by),
        _worth(line, host, price, tenant),
        None if tenant else _host_line(host),
        None if tenant else growth_of(_needed_by_day(hours, needs), host.total_kib - host.wanted_kib if host.wanted_kib else None, until),
        [] if tenant else _spans(hours, DAY_HOURS),
        _spans(hours, 1) if until - since < SHORT and not tenant else [],
        account.remarks,
        None if tenant else account.forecast,
    )


def total_of(hosts: Iterable[HostHour]) -> HostHour:
    """These hours together."""
    total = HostHour(0)
    for row in hosts:
        total.hour, total.name = row.hour, row.name
        for name in HOST_SUMS:
            setattr(total, name, getattr(total, name) + getattr(row, name))
        for number, seconds in row.used_spread.items():
            total.used_spread[number] += seconds
        for name in ("guests_most", "used_most_kib", "sold_most_kib", "promised_most_kib"):
            setattr(total, name, max(getattr(total, name), getattr(row, name)))
        for name in ("total_kib", "wanted_kib", "promisable_kib"):
            setattr(total, name, getattr(row, name) or getattr(total, name))
    return total


def _lines(found: Collection[GuestHour], seen: Mapping[str, int]) -> list[ReportLine]:
    return sorted((_guest_line(item, seen.get(item.id, 0)) for item in found), key=lambda line: -spare_of(line))


def without(by: str) -> str:
    """Return the line of the guests that have no class, or no such property."""
    return f"without a {by}"


def _text_of(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _class_lines(classes: Mapping[str, GuestHour], members: Mapping[str, Collection[str]], seconds: float, by: str) -> list[ReportLine]:
    """One line for each class, or text of a property, of the guests that were in it at any time."""
    for name, total in classes.items():
        total.name = name or without(by)
    return [_line(total, len(members[name]), seconds, _merged(total)) for name, total in sorted(classes.items())]


def _guest_line(total: GuestHour, hours: int) -> ReportLine:
    because = total.waited_for_mom_seconds
    besides = total.waited_seconds - because
    advice = advise(total.sold_kib, total.used_most_kib, hours, besides, total.waiting_known_seconds, total.killed, because)
    line = _line(total, 1, total.seconds, _merged(total), advice)
    return replace(line, used_gib=line.used_by_a_guest.average_gib)  # nothing is known of the time for which it did not tell


def spare_of(line: ReportLine) -> float:
    """Return the size that a guest was sold beyond what would do, in GiB; of those of which nothing is known, less than of any other."""
    if line.size.would_do_gib is None or line.sold_gib is None:
        return -1e18
    return line.sold_gib - line.size.would_do_gib


def _merged(total: GuestHour) -> float | None:
    return _known(total.merged_kib_seconds, total.merged_known_seconds)


def _known(value: float, seconds: float) -> float | None:
    """Unknown, where it was for no second known."""
    return value if seconds else None


def _line(total: GuestHour, guests: int, seconds: float, ksm: float | None, size: SizeAdvice = NO_ADVICE) -> ReportLine:
    """:param seconds: over which averages are taken: the time that was seen of a guest, or of the host for several of them"""
    if not total.seconds or not seconds:
        return ReportLine(total.name, total.id, total.service_class, guests, 0.0, total.unknown_seconds / HOUR, size=size)

    def of(name: str) -> float:
        kib_seconds: float = getattr(total, f"{name}_kib_seconds")
        return kib_seconds

    def hours(*names: str) -> float:
        return sum(map(of, names)) / KIB_SECONDS_PER_GIB_HOUR

    sold, had, held = (of(name) / seconds / KIB_PER_GIB for name in ("sold", "had", "held"))
    balloon, sweeps, cold = map(hours, ("by_balloon", "by_sweeps", "by_cold"))
    merged = None if ksm is None else ksm / KIB_SECONDS_PER_GIB_HOUR
    at_least = balloon + sweeps + cold + (merged or 0.0)
    at_most = hours("ballooned", "untaken", "by_cold") + (merged or 0.0)
    return ReportLine(
        total.name,
        total.id,
        total.service_class,
        guests,
        total.seconds / HOUR,
        total.unknown_seconds / HOUR,
        sold,
        had,
        held,
        total.used_kib_seconds / seconds / KIB_PER_GIB if total.used_known_seconds else None,
        _percentiles(total.held_spread, total.held_kib_seconds, total.seconds),
        _percentiles(total.used_spread, total.used_kib_seconds, total.used_known_seconds, total.used_most_kib),
        _percentiles(total.worked_spread, total.worked_kib_seconds, total.worked_known_seconds),
        SoldParts(*map(hours, ("sold", "held", "swapped", "ballooned", "untaken", "beyond"))),
        GivenBack(balloon, sweeps, cold, merged, at_least, max(at_least, at_most)),
        _known(total.waited_seconds, total.waiting_known_seconds),
        _known(total.waited_for_mom_seconds, total.waiting_known_seconds),
        total.late_bursts if total.waiting_known_seconds else None,
        total.killed if total.killed_known_seconds else None,
        total.promise_kept_seconds / HOUR,
        total.promise_broken_seconds,
        size,
        total.waiting_known_seconds / HOUR,
        total.killed_known_seconds / HOUR,
    )


def _percentiles(spread: Mapping[int, float], kib_seconds: float, seconds: float, most_kib: float | None = None) -> Percentiles:
    p50, p95, p99 = (percentile(spread, share) for share in (0.5, 0.95, 0.99))
    if p50 is None or p95 is None or p99 is None:
        return Percentiles()
    if most_kib is not None:  # an edge of a bin may lie beyond what was ever seen
        p50, p95, p99 = (min(item, most_kib) for item in (p50, p95, p99))
    average = kib_seconds / seconds if seconds else 0.0
    sizes = (None if item is None else item / KIB_PER_GIB for item in (average, p50, p95, p99, most_kib))
    return Percentiles(*sizes)


def _add_guest(total: GuestHour, row: GuestHour) -> None:
    for name in GUEST_SUMS:
        more = getattr(row, name)
        if more:
            setattr(total, name, getattr(total, name) + more)
    for name in _SPREADS:
        into: dict[int, float] = getattr(total, name)
        for number, seconds in getattr(row, name).items():
            into[number] += seconds
    total.used_most_kib = max(total.used_most_kib, row.used_most_kib)
    total.sold_kib = row.sold_kib or total.sold_kib
    total.service_class = row.service_class or total.service_class
    if row.hour:
        total.name = row.name


def _worth(line: ReportLine, host: HostHour, price: Price, tenant: str) -> Worth | None:
    """None where nothing is known."""
    given = line.given_back.at_least_gib_hours
    if given is None or not host.seconds:
        return None
    months = given / HOURS_A_MONTH
    money = None if price.each_gib_month is None else months * price.each_gib_month
    hosts = None if tenant or not host.total_kib else given * KIB_SECONDS_PER_GIB_HOUR / host.seconds / host.total_kib
    return Worth(months, price.each_gib_month, price.currency, money, hosts)


def _host_line(host: HostHour) -> HostLine:
    known, limits = host.memory_known_seconds, host.limits_known_seconds
    return HostLine(
        host.total_kib / KIB_PER_GIB or None,
        _percentiles(host.used_spread, host.total_kib_seconds - host.available_kib_seconds, known, host.used_most_kib),
        (host.total_kib - host.used_most_kib) / KIB_PER_GIB if known else None,
        host.wanted_kib / KIB_PER_GIB or None,
        host.guests_most,
        host.sold_most_kib / KIB_PER_GIB,
        host.promised_most_kib / KIB_PER_GIB,
        host.promisable_kib / KIB_PER_GIB or None,
        _known(host.below_wanted_seconds, limits),
        _known(host.below_hard_seconds, limits),
        _known(host.below_low_seconds, limits),
        _known(host.stalled_seconds, host.stalled_known_seconds),
        _known(host.ksmd_cpu_seconds, host.ksmd_known_seconds),
        host.ksmd_known_seconds / HOUR,
        _known(host.mom_cpu_seconds, host.mom_known_seconds),
        host.mom_known_seconds / HOUR,
        host.evictions,
        host.cycles,
    )


def _needed_by_day(hours: Sequence[HostHour], needs: Mapping[int, float]) -> list[tuple[float, float]]:
    """Return the most that the host needed in any hour of each day that was seen (KiB): what guests use, and what the host holds beside
    them.
    """
    days: defaultdict[int, list[float]] = defaultdict(list)
    for hour in hours:
        if hour.hour not in needs or hour.seconds < SEEN_SHARE * HOUR or not hour.memory_known_seconds:
            continue
        ksm = hour.ksm_kib_seconds / hour.ksm_known_seconds if hour.ksm_known_seconds else 0.0
        used = (hour.total_kib_seconds - hour.available_kib_seconds) / hour.memory_known_seconds
        besides = max(0.0, used + ksm - hour.guests_held_kib_seconds / hour.seconds)
        days[hour.hour // DAY_HOURS].append(needs[hour.hour] / hour.seconds + besides)
    return [(float(day), max(needed)) for day, needed in sorted(days.items()) if len(needed) >= WHOLE_DAY_HOURS]


def _spans(hours: Iterable[HostHour], each: int) -> list[Span]:
    """:param each: hours of one"""
    parts = groupby(sorted(hours, key=lambda hour: hour.hour), lambda hour: hour.hour // each)
    sums = [(number, total_of(of)) for number, of in parts]
    return [_span(number * each * HOUR, total) for number, total in sums if total.seconds]


def _span(begins: float, one: HostHour) -> Span:
    sums: list[float] = [getattr(one, f"guests_{name}_kib_seconds") for name in ("sold", "held", "by_balloon", "by_sweeps", "by_cold")]
    sold, held, balloon, sweeps, cold = (kib_seconds / one.seconds / KIB_PER_GIB for kib_seconds in sums)
    ksm = one.ksm_kib_seconds / one.ksm_known_seconds / KIB_PER_GIB if one.ksm_known_seconds else None
    used = one.used_most_kib / KIB_PER_GIB if one.total_kib else None
    return Span(begins, sold, held, balloon, sweeps, cold, ksm, used, one.total_kib / KIB_PER_GIB or None)
