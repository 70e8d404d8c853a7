"""Figures of a report, summed up from the accounts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final, TypeAlias

from mom_core import Guest, GuestPattern
from mom_plugins_record.report.hours import GIVEN_BACK, HOUR, SOLD, AccountedHour, GuestHour, percentile, total_of
from mom_plugins_record.report.sizes import KIB_PER_GIB, NO_ADVICE, Growth, SizeAdvice, advise, growth_of

HOURS_A_MONTH: Final = 730.0

DAY_HOURS: Final = 24

SHORT: Final = 3 * 86_400.0
"""A report of fewer seconds has plots by hours instead of days."""

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
"""Numbers keyed by their names in JSON; None if unknown.

`*_gib` is an average over the known time, of all guests together; `*_gib_hours` is a sum. `*_guest_hours` is a sum over guests.
Percentiles are of single guests.
"""


@dataclass(frozen=True, slots=True)
class ReportLine:
    """Line of a report: one guest, the guests of a class or property, or all guests."""

    name: str
    id: str
    service_class: str
    guests: int
    figures: Figures
    size: SizeAdvice = NO_ADVICE


@dataclass(frozen=True, slots=True)
class Worth:
    """Worth of the memory given back: in GiB months, in money if a price is set, and in hosts like this one."""

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
    spans: Sequence[Figures]
    """Averages of each `span`, and the host's maximum use. `begins` is in seconds since the epoch."""
    span: str
    """Day (UTC), or hour of a short period."""
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AccountedHours:
    """Hours of accounts, oldest first, with their time span in seconds since the epoch."""

    hosts: Sequence[AccountedHour]
    guests: Iterable[GuestHour]
    since: float
    until: float
    remarks: Sequence[str] = ()


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
    everything = GuestHour(0)
    for guest in guests:
        everything.add(guest)
    classes = {guest.service_class for guest in guests}
    everything = replace(everything, name="all", service_class=classes.pop() if len(classes) == 1 else "")
    seconds = host.sums["seconds"]
    line = _line(everything, len(guests), seconds, everything if tenant else host)
    groups = [(len(sums.members[name]), replace(total, name=name or without(by))) for name, total in sorted(sums.groups.items())]
    lines = [_line(total, count, seconds, total) for count, total in groups]
    if by == "guest":
        lines = sorted((_guest_line(guest, sums.known_hours[guest.id]) for guest in guests), key=lambda line: -spare_of(line))
    wanted = host.latest["wanted_kib"]
    limit = host.latest["total_kib"] - wanted if wanted else None
    return ReportSummary(
        host.name,
        since,
        until,
        seconds / HOUR,
        max(0.0, until - since - seconds) / HOUR,
        tenant,
        line,
        by,
        lines,
        _worth(line, host, price, tenant),
        None if tenant else _host_figures(host),
        None if tenant else growth_of(_needed_by_day(hours, sums.needs), limit, until),
        [] if tenant else _spans(hours, 1 if until - since < SHORT else DAY_HOURS),
        "hour" if until - since < SHORT else "day",
        account.remarks,
    )


@dataclass(slots=True)
class _GuestTotals:
    guests: dict[str, GuestHour] = field(default_factory=dict)
    groups: dict[str, GuestHour] = field(default_factory=dict)
    members: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    known_hours: Counter[str] = field(default_factory=Counter)
    needs: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    """Memory that guests needed, in KiB times seconds, keyed by hour."""

    @classmethod
    def of(cls, rows: Iterable[GuestHour], by: str, tenant: str) -> _GuestTotals:
        pattern = GuestPattern.of(tenant) if tenant else None
        totals = cls()
        for row in rows:
            if pattern is None or pattern.matches(Guest(row.id, row.name, properties=row.properties)):
                totals.add(row, by)
        return totals

    def add(self, row: GuestHour, by: str) -> None:
        self.guests.setdefault(row.id, GuestHour(0, id=row.id)).add(row)
        if by not in {"guest", "host"}:  # an hour belongs to the class that the guest had then
            value = row.service_class if by == "class" else row.properties.get(by, "")
            name = value if isinstance(value, str) else ", ".join(value)
            self.groups.setdefault(name, GuestHour(0)).add(row)
            self.members[name].add(row.id)
        seconds, known = row.sums["seconds"], row.sums["used_known_seconds"]
        if known >= SEEN_SHARE * HOUR:
            self.known_hours[row.id] += 1
        known_share = known / seconds if seconds else 0.0
        self.needs[row.hour] += row.sums["used_kib_seconds"] + (1 - known_share) * row.sums["held_kib_seconds"]


def without(by: str) -> str:
    """Return the name of the line for guests without a class, or without the property `by`."""
    return f"without a {by}"


def _guest_line(total: GuestHour, hours: int) -> ReportLine:
    sums, for_mom = total.sums, total.sums["waited_for_mom_seconds"]
    otherwise, known, killed = sums["waited_seconds"] - for_mom, sums["waiting_known_seconds"], int(sums["killed"])
    advice = advise(total.latest["sold_kib"], total.most["used_most_kib"], hours, otherwise, known, killed, for_mom)
    line = _line(total, 1, sums["seconds"], total, advice)
    return replace(line, figures={**line.figures, "used_gib": line.figures["used_average_gib"]})  # over the known time only


def spare_of(line: ReportLine) -> float:
    """Return the memory sold beyond the advised size, in GiB; -1e18 if unknown, to sort last."""
    sold = line.figures["sold_gib"]
    return -1e18 if line.size.would_do_gib is None or sold is None else sold - line.size.would_do_gib


def _line(total: GuestHour, guests: int, seconds: float, ksm: AccountedHour, size: SizeAdvice = NO_ADVICE) -> ReportLine:
    sums, known = total.sums, seconds if total.sums["seconds"] else 0.0
    waiting, kept, broken = sums["waiting_known_seconds"], sums["promise_kept_seconds"], sums["promise_broken_seconds"]
    return ReportLine(total.name, total.id, total.service_class, guests, {
        "seen_guest_hours": sums["seconds"] / HOUR,
        "unknown_guest_hours": sums["unknown_seconds"] / HOUR,
        **_memory(sums, ksm, known),
        "used_gib": _gib(sums["used_kib_seconds"], known if sums["used_known_seconds"] else 0.0),
        **_percentiles("held", total, sums["held_kib_seconds"] / sums["seconds"] if sums["seconds"] else 0.0, None),
        **_percentiles("used", total, total.average("used"), total.most["used_most_kib"]),
        "waited_seconds": _known(sums["waited_seconds"], waiting),
        "waited_for_mom_seconds": _known(sums["waited_for_mom_seconds"], waiting),
        "waited_for_mom_percent": _percent(sums["waited_for_mom_seconds"], waiting),
        "killed": _known(int(sums["killed"]), sums["killed_known_seconds"]),
        "promise_kept_hours": kept / HOUR,
        "promise_kept_percent": _percent(kept, kept + broken),
        "promise_broken_seconds": broken,
        "waiting_known_guest_hours": waiting / HOUR,
        "killed_known_guest_hours": sums["killed_known_seconds"] / HOUR,
    }, size)  # fmt: skip


def _memory(sums: Mapping[str, float], ksm: AccountedHour, seconds: float, prefix: str = "") -> Figures:
    # Averages over `seconds`, and sums, of sold memory's parts and of memory given back; None without `seconds`. `at_most` also counts
    # memory that guests have never touched.
    parts: dict[str, float | None] = {name: sums[f"{prefix}{name}_kib_seconds"] for name in (*SOLD, *GIVEN_BACK)}
    merged = parts["given_back_ksm"] = ksm.sums["ksm_kib_seconds"] if ksm.sums["ksm_known_seconds"] else None
    at_least, at_most = (
        sum(parts[name] or 0.0 for name in names) + (merged or 0.0) for names in (GIVEN_BACK, ("ballooned", "untaken", GIVEN_BACK[-1]))
    )
    parts |= {"given_back_at_least": at_least, "given_back_at_most": max(at_least, at_most)}
    averages = {f"{name}_gib": _gib(kib_seconds, seconds) for name, kib_seconds in parts.items()}
    return {**averages, **{f"{name}_hours": None if gib is None else gib * seconds / HOUR for name, gib in averages.items()}}


def _gib(kib_seconds: float | None, seconds: float) -> float | None:
    return kib_seconds / seconds / KIB_PER_GIB if kib_seconds is not None and seconds else None


def _known(value: float, seconds: float) -> float | None:
    return value if seconds else None


def _percent(seconds: float, of: float) -> float | None:
    return 100 * seconds / of if of else None


def _percentiles(name: str, hour: AccountedHour, average: float, most: float | None) -> Figures:
    ranks = {f"p{share}": percentile(hour.spreads[name], share / 100) for share in (50, 95, 99)}
    bounded = [kib if kib is None or most is None else min(kib, most) for kib in ranks.values()]  # the edge of a bin may exceed it
    known = None not in ranks.values()
    return {
        f"{name}_{rank}_gib": kib / KIB_PER_GIB if known and kib is not None else None
        for rank, kib in zip(("average", *ranks, "most"), (average, *bounded, most), strict=True)
    }


def _worth(line: ReportLine, host: AccountedHour, price: Price, tenant: str) -> Worth | None:
    gib, gib_hours = line.figures["given_back_at_least_gib"], line.figures["given_back_at_least_gib_hours"]
    if gib is None or gib_hours is None:
        return None
    months = gib_hours / HOURS_A_MONTH
    money = None if price.each_gib_month is None else months * price.each_gib_month
    total = host.latest["total_kib"]
    hosts = None if tenant or not total else gib * KIB_PER_GIB / total
    return Worth(months, price.each_gib_month, price.currency, money, hosts)


def _host_figures(host: AccountedHour) -> Figures:
    sums, most, latest = host.sums, host.most, host.latest
    busy, limits = ("mom_cpu", "ksmd_cpu", "stalled"), ("below_wanted", "below_hard", "below_low")
    return {
        "total_gib": latest["total_kib"] / KIB_PER_GIB or None,
        **_percentiles("used", host, host.average("used"), most["used_most_kib"]),
        "available_least_gib": _known((latest["total_kib"] - most["used_most_kib"]) / KIB_PER_GIB, sums["used_known_seconds"]),
        "wanted_gib": latest["wanted_kib"] / KIB_PER_GIB or None,
        "guests_most": int(most["guests_most"]),
        "sold_most_gib": most["sold_most_kib"] / KIB_PER_GIB,
        "promised_most_gib": most["promised_most_kib"] / KIB_PER_GIB,
        "promisable_gib": latest["promisable_kib"] / KIB_PER_GIB or None,
        **{f"{name}_seconds": _known(sums[f"{name}_seconds"], sums["below_known_seconds"]) for name in limits},
        **{f"{name}_seconds": _known(sums[f"{name}_seconds"], sums[f"{name}_known_seconds"]) for name in busy},
        **{f"{name}_percent": _percent(sums[f"{name}_seconds"], sums[f"{name}_known_seconds"]) for name in busy},
        "evictions": int(sums["evictions"]),
        "cycles": int(sums["cycles"]),
    }


def _needed_by_day(hours: Sequence[AccountedHour], needs: Mapping[int, float]) -> list[tuple[float, float]]:
    # Number and largest need (KiB) of each complete day.
    days: defaultdict[int, list[float]] = defaultdict(list)
    for hour in hours:
        seconds = hour.sums["seconds"]
        if hour.hour in needs and seconds >= SEEN_SHARE * HOUR and hour.sums["used_known_seconds"]:
            own = max(0.0, hour.average("used") + hour.average("ksm") - hour.sums["guests_held_kib_seconds"] / seconds)
            days[hour.hour // DAY_HOURS].append(needs[hour.hour] / seconds + own)
    return [(float(day), max(needed)) for day, needed in sorted(days.items()) if len(needed) >= WHOLE_DAY_HOURS]


def _spans(hours: Iterable[AccountedHour], each: int) -> list[Figures]:
    parts = groupby(sorted(hours, key=lambda hour: hour.hour), lambda hour: hour.hour // each)
    totals = [(number * each * HOUR, total_of(rows)) for number, rows in parts]
    return [
        {
            "begins": begins,
            **_memory(total.sums, total, total.sums["seconds"], "guests_"),
            "given_back_ksm_gib": _known(total.average("ksm") / KIB_PER_GIB, total.sums["ksm_known_seconds"]),
            "used_most_gib": _known(total.most["used_most_kib"] / KIB_PER_GIB, total.latest["total_kib"]),
            "total_gib": total.latest["total_kib"] / KIB_PER_GIB or None,
        }
        for begins, total in totals
        if total.sums["seconds"]
    ]
