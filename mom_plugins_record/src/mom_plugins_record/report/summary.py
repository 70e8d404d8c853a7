"""Figures of a report, summed up from the accounts. docs/report.md defines every number.

Field names are those of JSON and CSV.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Final, TypeAlias

from mom_core import Guest, GuestPattern
from mom_kvm import RecordedPoint
from mom_plugins_record.report.hours import HOUR, GuestHour, GuestSums, HostHour, SizeSpread, SizeSum, added, percentile
from mom_plugins_record.report.sizes import KIB_PER_GIB, NO_ADVICE, Growth, SizeAdvice, advise, growth_of

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


Figures: TypeAlias = Mapping[str, float | None]
"""Numbers keyed by their names in JSON and CSV; None if unknown.

`*_gib` is an average over the known time, of all guests together; `*_gib_hours` is a sum. Hours of guests are guests times time.
Percentiles are of single guests, and at most 4.4 % too high.
"""


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One guest, the guests of a class or property, or all guests of the report."""

    name: str
    id: str
    service_class: str
    guests: int
    figures: Figures
    size: SizeAdvice = NO_ADVICE


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
    host: Figures | None
    growth: Growth | None
    days: Sequence[Figures]
    """Averages by day (UTC) from `begins` on, in seconds since the epoch, and the host's maximum use."""
    hours: Sequence[Figures]
    """The same by hours; empty for a long period."""
    remarks: Sequence[str] = ()
    forecast: Figures | None = None


@dataclass(frozen=True, slots=True)
class AccountedHours:
    """Hours of accounts, oldest first, with their time span in seconds since the epoch."""

    hosts: Sequence[HostHour]
    guests: Iterable[GuestHour]
    since: float
    until: float
    remarks: Sequence[str] = ()
    forecast: Figures | None = None
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
        None if tenant else _host_figures(host),
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
    return replace(line, figures={**line.figures, "used_gib": line.figures["used_average_gib"]})  # over the known time only


def spare_of(line: ReportLine) -> float:
    """Return the memory sold beyond the advised size, in GiB. Unknown sizes sort last."""
    sold = line.figures["sold_gib"]
    return -1e18 if line.size.would_do_gib is None or sold is None else sold - line.size.would_do_gib


def _line(total: GuestHour, guests: int, seconds: float, ksm: SizeSum, size: SizeAdvice = NO_ADVICE) -> ReportLine:
    harm, known = total.harm, seconds if total.seconds else 0.0
    waiting, promised = harm.waiting_known_seconds, harm.promise_kept_seconds + harm.promise_broken_seconds
    held = SizeSpread(total.kib_seconds.held, total.seconds, spread=total.held_spread)
    return ReportLine(total.name, total.id, total.service_class, guests, {
        "seen_guest_hours": total.seconds / HOUR,
        "unknown_guest_hours": total.unknown_seconds / HOUR,
        **_memory(total, ksm, known),
        "used_gib": _gib(total.used.kib_seconds, known if total.used.known_seconds else 0.0),
        **_percentiles("held", held),
        **_percentiles("used", total.used, total.used.most_kib),
        **_percentiles("worked_on", total.worked, total.worked.most_kib),
        "waited_seconds": _known(harm.waited_seconds, waiting),
        "waited_for_mom_seconds": _known(harm.waited_for_mom_seconds, waiting),
        "waited_for_mom_percent": _percent(harm.waited_for_mom_seconds, waiting),
        "late_bursts": _known(harm.late_bursts, waiting),
        "killed": _known(harm.killed, harm.killed_known_seconds),
        "promise_kept_hours": harm.promise_kept_seconds / HOUR,
        "promise_kept_percent": _percent(harm.promise_kept_seconds, promised),
        "promise_broken_seconds": harm.promise_broken_seconds,
        "waiting_known_guest_hours": waiting / HOUR,
        "killed_known_guest_hours": harm.killed_known_seconds / HOUR,
    }, size)  # fmt: skip


def _memory(sums: GuestHour | GuestSums, ksm: SizeSum, seconds: float) -> Figures:
    # Averages over `seconds` and sums of the sold memory's parts, and of the memory given back by each means; None without `seconds`.
    # `at_most` also counts memory that guests have never touched.
    sold, given_back = asdict(sums.kib_seconds), asdict(sums.given_back_kib_seconds)
    merged = ksm.kib_seconds if ksm.known_seconds else None
    at_least = sum(given_back.values()) + (merged or 0.0)
    at_most = sold["ballooned"] + sold["untaken"] + given_back["cold"] + (merged or 0.0)
    given_back |= {"ksm": merged, "at_least": at_least, "at_most": max(at_least, at_most)}
    parts = {**sold, **{f"given_back_{name}": kib_seconds for name, kib_seconds in given_back.items()}}
    averages = {f"{name}_gib": _gib(kib_seconds, seconds) for name, kib_seconds in parts.items()}
    return {**averages, **{f"{name}_hours": None if gib is None else gib * seconds / HOUR for name, gib in averages.items()}}


def _gib(kib_seconds: float | None, seconds: float) -> float | None:
    return kib_seconds / seconds / KIB_PER_GIB if kib_seconds is not None and seconds else None


def _known(value: float, seconds: float) -> float | None:
    return value if seconds else None


def _percent(seconds: float, of: float) -> float | None:
    return 100 * seconds / of if of else None


def _percentiles(name: str, size: SizeSpread, most: float | None = None) -> Figures:
    ranks = {f"p{share}": percentile(size.spread, share / 100) for share in (50, 95, 99)}
    bounded = [kib if kib is None or most is None else min(kib, most) for kib in ranks.values()]  # the edge of a bin may be beyond
    known = None not in ranks.values()
    return {
        f"{name}_{rank}_gib": kib / KIB_PER_GIB if known and kib is not None else None
        for rank, kib in zip(("average", *ranks, "most"), (size.average, *bounded, most), strict=True)
    }


def _worth(line: ReportLine, host: HostHour, price: Price, tenant: str) -> Worth | None:
    gib, gib_hours = line.figures["given_back_at_least_gib"], line.figures["given_back_at_least_gib_hours"]
    if gib is None or gib_hours is None:
        return None
    months = gib_hours / HOURS_A_MONTH
    money = None if price.each_gib_month is None else months * price.each_gib_month
    hosts = None if tenant or not host.total_kib else gib * KIB_PER_GIB / host.total_kib
    return Worth(months, price.each_gib_month, price.currency, money, hosts)


def _host_figures(host: HostHour) -> Figures:
    total, below = host.total_kib, host.below
    return {
        "total_gib": total / KIB_PER_GIB or None,
        **_percentiles("used", host.used, host.used.most_kib),
        "available_least_gib": _known((total - host.used.most_kib) / KIB_PER_GIB, host.used.known_seconds),
        "wanted_gib": host.wanted_kib / KIB_PER_GIB or None,
        "guests_most": host.guests_most,
        "sold_most_gib": host.sold_most_kib / KIB_PER_GIB,
        "promised_most_gib": host.promised_most_kib / KIB_PER_GIB,
        "promisable_gib": host.promisable_kib / KIB_PER_GIB or None,
        "below_wanted_seconds": _known(below.wanted_seconds, below.known_seconds),
        "below_hard_seconds": _known(below.hard_seconds, below.known_seconds),
        "below_low_seconds": _known(below.low_seconds, below.known_seconds),
        "stalled_seconds": _known(host.stalled.seconds, host.stalled.known_seconds),
        "ksmd_cpu_seconds": _known(host.ksmd_cpu.seconds, host.ksmd_cpu.known_seconds),
        "ksmd_cpu_percent": _percent(host.ksmd_cpu.seconds, host.ksmd_cpu.known_seconds),
        "mom_cpu_seconds": _known(host.mom_cpu.seconds, host.mom_cpu.known_seconds),
        "mom_cpu_percent": _percent(host.mom_cpu.seconds, host.mom_cpu.known_seconds),
        "evictions": host.evictions,
        "cycles": host.cycles,
    }


def _needed_by_day(hours: Sequence[HostHour], needs: Mapping[int, float]) -> list[tuple[float, float]]:
    # Return the number of each complete day, and its largest need in KiB.
    days: defaultdict[int, list[float]] = defaultdict(list)
    for hour in hours:
        if hour.hour in needs and hour.seconds >= SEEN_SHARE * HOUR and hour.used.known_seconds:
            own = max(0.0, hour.used.average + hour.ksm.average - hour.guests.kib_seconds.held / hour.seconds)
            days[hour.hour // DAY_HOURS].append(needs[hour.hour] / hour.seconds + own)
    return [(float(day), max(needed)) for day, needed in sorted(days.items()) if len(needed) >= WHOLE_DAY_HOURS]


def _spans(hours: Iterable[HostHour], each: int) -> list[Figures]:
    parts = groupby(sorted(hours, key=lambda hour: hour.hour), lambda hour: hour.hour // each)
    totals = [(number * each * HOUR, total_of(rows)) for number, rows in parts]
    return [
        {
            "begins": begins,
            **_memory(total.guests, total.ksm, total.seconds),
            "used_most_gib": _known(total.used.most_kib / KIB_PER_GIB, total.total_kib),
            "total_gib": total.total_kib / KIB_PER_GIB or None,
        }
        for begins, total in totals
        if total.seconds
    ]
