"""Figures of a report, summed up from the accounts. docs/report.md defines every number.

Field names are those of JSON and CSV.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final, TypeVar

from mom_core import Guest, GuestPattern
from mom_kvm import RecordedPoint
from mom_plugins_record.report.hours import HOUR, GuestHour, HostHour, SizeSpread, SizeSum, added, percentile
from mom_plugins_record.report.sizes import KIB_PER_GIB, NO_ADVICE, Growth, SizeAdvice, advise, growth_of

Number = TypeVar("Number", int, float)

KIB_SECONDS_PER_GIB_HOUR: Final = KIB_PER_GIB * 3600

HOURS_A_MONTH: Final = 730.0

DAY_HOURS: Final = 24

SHORT: Final = 3 * 86_400.0
"""s. A report of a shorter period has plots by hours instead of days."""

WHOLE_DAY_HOURS: Final = 20
"""Hours of a day that must be known for the day to count. A morning alone would look like less need."""

SEEN_SHARE: Final = 0.5
"""Share of an hour that must be known for the hour to count as evidence of the guest's need."""


@dataclass(frozen=True, slots=True)
class Price:
    """Price of a GiB of memory for a month; None if not set."""

    each_gib_month: float | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Size of single guests over time. Percentiles are at most 4.4 % too high; the other values are exact."""

    average_gib: float | None = None
    p50_gib: float | None = None
    p95_gib: float | None = None
    p99_gib: float | None = None
    most_gib: float | None = None


@dataclass(frozen=True, slots=True)
class SoldParts:
    """Sold memory, broken down by where it is. `sold` is the sum of the other values, minus `beyond`, such as QEMU's own memory."""

    sold_gib_hours: float | None = None
    held_gib_hours: float | None = None
    swapped_gib_hours: float | None = None
    ballooned_gib_hours: float | None = None
    untaken_gib_hours: float | None = None
    beyond_gib_hours: float | None = None


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Memory that the host got back, by each means.

    `at_least` is the sum. `at_most` also counts memory that guests have never touched.
    """

    by_balloon_gib_hours: float | None = None
    by_sweeps_gib_hours: float | None = None
    by_cold_memory_gib_hours: float | None = None
    by_ksm_gib_hours: float | None = None
    at_least_gib_hours: float | None = None
    at_most_gib_hours: float | None = None


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One guest, the guests of a class or property, or all guests of the report.

    Hours are guests times time. `sold`, `had`, `held` and `used` are averages over the known time, of all guests together. Percentiles are
    of single guests.
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
        """Time that guests waited because of mom, in percent of the time with known stalls; None if unknown."""
        hours, waited = self.waiting_known_guest_hours, self.waited_for_mom_seconds
        return None if waited is None or not hours else 100 * waited / HOUR / hours

    @property
    def promise_kept_percent(self) -> float | None:
        """Percentage of guests' time with a promise in which the promise was kept; None without promises."""
        promised = self.promise_kept_hours * HOUR + self.promise_broken_seconds
        return 100 * self.promise_kept_hours * HOUR / promised if promised else None


@dataclass(frozen=True, slots=True)
class HostLine:
    """Figures of the host."""

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
    """Average error of forecasts of the next hour, and of expecting no change (`as_now_wrong_by_gib`)."""

    wrong_by_gib: float
    as_now_wrong_by_gib: float


@dataclass(frozen=True, slots=True)
class Span:
    """Averages over a day (UTC) or an hour, and the maximum use in it. `begins`: seconds since the epoch."""

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
    """Worth of the memory given back: in GiB months, in money with a price, and in hosts of this size."""

    gib_months: float
    price_per_gib_month: float | None
    currency: str
    money: float | None
    hosts: float | None


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """Content of a report. A tenant's report has no `host` and no `growth`."""

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
    """Averages by hours; empty for a long period."""
    remarks: Sequence[str] = ()
    forecast: ForecastLine | None = None


@dataclass(frozen=True, slots=True)
class AccountedHours:
    """Hours of accounts, oldest first, with their time span in seconds since the epoch."""

    hosts: Sequence[HostHour]
    guests: Iterable[GuestHour]
    since: float
    until: float
    remarks: Sequence[str] = ()
    forecast: ForecastLine | None = None
    minutes: Sequence[RecordedPoint] = ()
    """Figures of the host by minutes, for a period that is too short for plots by hours."""


def summary_of(account: AccountedHours, by: str = "class", tenant: str = "", price: Price = Price()) -> ReportSummary:
    """Return the figures of a report, summed up from these hours.

    :param by: subject of each line: `class`, `guest`, `host`, or a property of the platform such as `project`
    :param tenant: pattern of guests. A report with a tenant leaves out the host and all other guests
    """
    since, until = account.since, account.until
    hours = [total_of(rows) for _, rows in groupby(account.hosts, lambda row: row.hour)]  # a restarted mom leaves two rows for one hour
    host = total_of(hours)
    sums = _GuestTotals.of(account.guests, by, tenant)
    guests = list(sums.guests.values())
    everything = GuestHour(0, "", "")
    for guest in guests:
        added(everything, guest)
    classes = {guest.service_class for guest in guests}
    everything = replace(everything, id="", name="all", service_class=classes.pop() if len(classes) == 1 else "")
    line = _line(everything, len(guests), host.seconds, everything.merged if tenant else host.ksm)
    groups = [(len(sums.members[name]), replace(total, id="", name=name or without(by))) for name, total in sorted(sums.groups.items())]
    lines = [_line(total, count, host.seconds, total.merged) for count, total in groups]
    if by == "guest":
        lines = sorted((_guest_line(guest, sums.known_hours[guest.id]) for guest in guests), key=lambda line: -spare_of(line))
    limit = host.total_kib - host.wanted_kib if host.wanted_kib else None
    return ReportSummary(
        host.name,
        since,
        until,
        host.seconds / HOUR,
        max(0.0, until - since - host.seconds) / HOUR,
        tenant,
        line,
        by,
        lines,
        _worth(line, host, price, tenant),
        None if tenant else _host_line(host),
        None if tenant else growth_of(_needed_by_day(hours, sums.needs), limit, until),
        [] if tenant else _spans(hours, DAY_HOURS),
        _spans(hours, 1) if until - since < SHORT and not tenant else [],
        account.remarks,
        None if tenant else account.forecast,
    )


@dataclass(slots=True)
class _GuestTotals:
    guests: dict[str, GuestHour] = field(default_factory=dict)
    groups: dict[str, GuestHour] = field(default_factory=dict)
    members: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    known_hours: Counter[str] = field(default_factory=Counter)
    needs: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    """KiB times seconds, keyed by hour."""

    @classmethod
    def of(cls, rows: Iterable[GuestHour], by: str, tenant: str) -> _GuestTotals:
        pattern = GuestPattern.of(tenant) if tenant else None
        totals = cls()
        for row in rows:
            if pattern is None or pattern.matches(Guest(row.id, row.name, properties=row.properties)):
                totals.add(row, by)
        return totals

    def add(self, row: GuestHour, by: str) -> None:
        added(self.guests.setdefault(row.id, GuestHour(0, row.id, row.name)), row)
        if by not in {"guest", "host"}:  # an hour belongs to the class that the guest had then
            value = row.service_class if by == "class" else row.properties.get(by, "")
            name = value if isinstance(value, str) else ", ".join(value)
            added(self.groups.setdefault(name, GuestHour(0, "", name)), row)
            self.members[name].add(row.id)
        if row.used.known_seconds >= SEEN_SHARE * HOUR:
            self.known_hours[row.id] += 1
        known_share = row.used.known_seconds / row.seconds if row.seconds else 0.0
        self.needs[row.hour] += row.used.kib_seconds + (1 - known_share) * row.kib_seconds.held


def total_of(hosts: Iterable[HostHour], total: HostHour | None = None) -> HostHour:
    """Return the sum of these hours, added to a total if there is one."""
    total = total or HostHour(0)
    for row in hosts:
        added(total, row)
    return total


def without(by: str) -> str:
    """Return the name of the line for guests without a class or this property."""
    return f"without a {by}"


def _guest_line(total: GuestHour, hours: int) -> ReportLine:
    harm = total.harm
    otherwise = harm.waited_seconds - harm.waited_for_mom_seconds
    advice = advise(
        total.sold_kib, total.used.most_kib, hours, otherwise, harm.waiting_known_seconds, harm.killed, harm.waited_for_mom_seconds
    )
    line = _line(total, 1, total.seconds, total.merged, advice)
    return replace(line, used_gib=line.used_by_a_guest.average_gib)  # over the known time only


def spare_of(line: ReportLine) -> float:
    """Return the memory sold beyond the advised size, in GiB. Unknown sizes sort last."""
    if line.size.would_do_gib is None or line.sold_gib is None:
        return -1e18
    return line.sold_gib - line.size.would_do_gib


def _known(value: Number, seconds: float) -> Number | None:
    return value if seconds else None


def _line(total: GuestHour, guests: int, seconds: float, ksm: SizeSum, size: SizeAdvice = NO_ADVICE) -> ReportLine:
    if not total.seconds or not seconds:
        return ReportLine(total.name, total.id, total.service_class, guests, 0.0, total.unknown_seconds / HOUR, size=size)
    sold, given_back, harm = total.kib_seconds, total.given_back_kib_seconds, total.harm
    balloon, sweeps, cold = (item / KIB_SECONDS_PER_GIB_HOUR for item in (given_back.balloon, given_back.sweeps, given_back.cold))
    merged = _known(ksm.kib_seconds / KIB_SECONDS_PER_GIB_HOUR, ksm.known_seconds)
    at_least = balloon + sweeps + cold + (merged or 0.0)
    at_most = (sold.ballooned + sold.untaken) / KIB_SECONDS_PER_GIB_HOUR + cold + (merged or 0.0)
    parts = (sold.sold, sold.held, sold.swapped, sold.ballooned, sold.untaken, sold.beyond)
    return ReportLine(
        total.name,
        total.id,
        total.service_class,
        guests,
        total.seconds / HOUR,
        total.unknown_seconds / HOUR,
        sold.sold / seconds / KIB_PER_GIB,
        sold.had / seconds / KIB_PER_GIB,
        sold.held / seconds / KIB_PER_GIB,
        _known(total.used.kib_seconds / seconds / KIB_PER_GIB, total.used.known_seconds),
        _percentiles(SizeSpread(sold.held, total.seconds, spread=total.held_spread), has_most=False),
        _percentiles(total.used),
        _percentiles(total.worked),
        SoldParts(*(part / KIB_SECONDS_PER_GIB_HOUR for part in parts)),
        GivenBack(balloon, sweeps, cold, merged, at_least, max(at_least, at_most)),
        _known(harm.waited_seconds, harm.waiting_known_seconds),
        _known(harm.waited_for_mom_seconds, harm.waiting_known_seconds),
        _known(harm.late_bursts, harm.waiting_known_seconds),
        _known(harm.killed, harm.killed_known_seconds),
        harm.promise_kept_seconds / HOUR,
        harm.promise_broken_seconds,
        size,
        harm.waiting_known_seconds / HOUR,
        harm.killed_known_seconds / HOUR,
    )


def _percentiles(size: SizeSpread, *, has_most: bool = True) -> Percentiles:
    values = [percentile(size.spread, share) for share in (0.5, 0.95, 0.99)]
    if None in values:
        return Percentiles()
    most = size.most_kib if has_most else None
    bounded = [value if value is None or most is None else min(value, most) for value in values]  # the edge of a bin may be beyond
    return Percentiles(*(None if value is None else value / KIB_PER_GIB for value in (size.average, *bounded, most)))


def _worth(line: ReportLine, host: HostHour, price: Price, tenant: str) -> Worth | None:
    gib_hours = line.given_back.at_least_gib_hours
    if gib_hours is None or not host.seconds:
        return None
    months = gib_hours / HOURS_A_MONTH
    money = None if price.each_gib_month is None else months * price.each_gib_month
    hosts = None if tenant or not host.total_kib else gib_hours * KIB_SECONDS_PER_GIB_HOUR / host.seconds / host.total_kib
    return Worth(months, price.each_gib_month, price.currency, money, hosts)


def _host_line(host: HostHour) -> HostLine:
    below = host.below
    return HostLine(
        host.total_kib / KIB_PER_GIB or None,
        _percentiles(host.used),
        _known((host.total_kib - host.used.most_kib) / KIB_PER_GIB, host.used.known_seconds),
        host.wanted_kib / KIB_PER_GIB or None,
        host.guests_most,
        host.sold_most_kib / KIB_PER_GIB,
        host.promised_most_kib / KIB_PER_GIB,
        host.promisable_kib / KIB_PER_GIB or None,
        _known(below.wanted_seconds, below.known_seconds),
        _known(below.hard_seconds, below.known_seconds),
        _known(below.low_seconds, below.known_seconds),
        _known(host.stalled.seconds, host.stalled.known_seconds),
        _known(host.ksmd_cpu.seconds, host.ksmd_cpu.known_seconds),
        host.ksmd_cpu.known_seconds / HOUR,
        _known(host.mom_cpu.seconds, host.mom_cpu.known_seconds),
        host.mom_cpu.known_seconds / HOUR,
        host.evictions,
        host.cycles,
    )


def _needed_by_day(hours: Sequence[HostHour], needs: Mapping[int, float]) -> list[tuple[float, float]]:
    # Return the number of each complete day, and its largest need in KiB.
    days: defaultdict[int, list[float]] = defaultdict(list)
    for hour in hours:
        if hour.hour in needs and hour.seconds >= SEEN_SHARE * HOUR and hour.used.known_seconds:
            own = max(0.0, hour.used.average + hour.ksm.average - hour.guests.kib_seconds.held / hour.seconds)
            days[hour.hour // DAY_HOURS].append(needs[hour.hour] / hour.seconds + own)
    return [(float(day), max(needed)) for day, needed in sorted(days.items()) if len(needed) >= WHOLE_DAY_HOURS]


def _spans(hours: Iterable[HostHour], each: int) -> list[Span]:
    parts = groupby(sorted(hours, key=lambda hour: hour.hour), lambda hour: hour.hour // each)
    return [_span(number * each * HOUR, total) for number, total in ((number, total_of(rows)) for number, rows in parts) if total.seconds]


def _span(begins: float, total: HostHour) -> Span:
    sold, given_back = total.guests.kib_seconds, total.guests.given_back_kib_seconds
    in_gib = 1 / total.seconds / KIB_PER_GIB
    return Span(
        begins,
        sold.sold * in_gib,
        sold.held * in_gib,
        given_back.balloon * in_gib,
        given_back.sweeps * in_gib,
        given_back.cold * in_gib,
        _known(total.ksm.average / KIB_PER_GIB, total.ksm.known_seconds),
        _known(total.used.most_kib / KIB_PER_GIB, total.total_kib),
        total.total_kib / KIB_PER_GIB or None,
    )
