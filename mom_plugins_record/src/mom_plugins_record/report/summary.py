"""Figures of a report, summed up from the accounts, and advice on guests' sizes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from statistics import linear_regression, pvariance
from typing import Final, TypeAlias

from mom_core import Guest, GuestPattern
from mom_plugins_record.report.hours import GIVEN_BACK, HOUR, SOLD, AccountedHour, GuestHour, percentile, total_of

LEAST_DAYS: Final = 7
"""Days of data needed. In fewer days, the rhythm of a week looks like growth."""

FARTHEST_DAYS: Final = 730.0
"""If the host will be full later than this, mom names no date: the data cover few weeks."""

# Student's t at 97.5 % by minimal degrees of freedom.
_STUDENT: Final = (
    (5, 2.571), (6, 2.447), (7, 2.365), (8, 2.306), (9, 2.262), (10, 2.228), (12, 2.179), (15, 2.131),
    (20, 2.086), (30, 2.042),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of the needed memory with 95 % bounds, and when the host will be full (seconds since the epoch).

    Values are None if unknown (`why_unknown`), or more than two years away.
    """

    days: int = 0
    gib_each_week: float | None = None
    gib_each_week_least: float | None = None
    gib_each_week_most: float | None = None
    full_on: float | None = None
    full_on_earliest: float | None = None
    why_unknown: str = ""


def growth_of(days: Sequence[tuple[float, float]], limit: float | None, last: float) -> Growth:
    """Return the growth of the needed memory.

    :param days: each day's number and largest need in KiB
    :param limit: needed memory in KiB at which the host is full; None if unknown
    :param last: end of the last day, in seconds since the epoch
    """
    count = len(days)
    if count < LEAST_DAYS:
        return Growth(count, why_unknown=f"{LEAST_DAYS} complete days are needed, and {count} are known")
    slope, intercept = linear_regression(*zip(*days, strict=True))
    left = math.fsum((needed - intercept - slope * day) ** 2 for day, needed in days)
    across = count * pvariance(day for day, _ in days)
    student = next(value for least, value in reversed(_STUDENT) if count - 2 >= least)
    unsure = student * math.sqrt(left / (count - 2) / across)
    week, least, most = (each_day * 7 / KIB_PER_GIB for each_day in (slope, slope - unsure, slope + unsure))
    if limit is None:
        return Growth(count, week, least, most, why_unknown="the memory that the host should keep free is unknown")
    room = limit - (intercept + slope * days[-1][0])
    return Growth(count, week, least, most, _reached(room, slope, last), _reached(room, slope + unsure, last))


def _reached(room: float, each_day: float, last: float) -> float | None:
    if room <= 0:
        return last
    days = room / each_day if each_day > 0 else math.inf
    return last + days * 86_400 if days <= FARTHEST_DAYS else None


MARGIN_SHARE: Final = 0.25
MARGIN_KIB: Final = 80 * 1024.0
"""Reserve of a guest above its use: a share of the use, plus an amount in KiB, as in the balloon law. With less, guests of 1 GiB had OOM
kills."""

STEP_KIB: Final = 256 * 1024.0
"""Advised sizes are multiples of this size in KiB."""

LEAST_HOURS: Final = 24
"""Hours of data needed for advice. Work repeats after a day at the earliest."""

KIB_PER_GIB: Final = float(1 << 20)

CONFIDENCE: Final = 0.95

LARGE_SHARE: Final = 0.75
"""A guest is too large, and worth a restart, if at most this share of its sold memory is sufficient."""

WAITING_SHARE: Final = 0.01
"""A guest is too small if it stalls for at least this share of its time although mom holds nothing back."""


class Fit(StrEnum):
    """How a guest's sold memory fits its use."""

    LARGE = "too large"
    SMALL = "too small"
    FITS = "fits"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SizeAdvice:
    """Advice on the size of a guest. Values are None if unknown.

    :param would_do_gib: sufficient size
    :param risk: largest share of hours that may exceed all known hours, with 95 % confidence
    :param why: why the size is too small, or the fit is unknown
    """

    fit: Fit = Fit.UNKNOWN
    would_do_gib: float | None = None
    risk: float | None = None
    hours: int = 0
    why: str = ""


NO_ADVICE: Final = SizeAdvice()


def risk_of(hours: int) -> float:
    """Return the largest probability, with 95 % confidence, that an hour exceeds all of `hours` known hours."""
    return float(1 - (1 - CONFIDENCE) ** (1 / hours))


def advise(
    sold: float, most: float, hours: int, waited_besides: float, seconds: float, killed: int, waited_for_mom: float = 0.0
) -> SizeAdvice:
    """Return advice on the size of a guest.

    :param sold: sold memory in KiB
    :param most: maximum of the guest's use in KiB
    :param hours: hours with known use
    :param waited_besides: stall seconds while mom held nothing back, out of all `seconds`
    :param waited_for_mom: stall seconds while mom held memory back
    """
    if not (hours or most):
        return SizeAdvice(Fit.UNKNOWN, why="the guest does not report its memory use")
    if hours < LEAST_HOURS:
        return SizeAdvice(Fit.UNKNOWN, hours=hours, why=f"{LEAST_HOURS} hours of data are needed, and {hours} are known")
    would_do = math.ceil((most * (1 + MARGIN_SHARE) + MARGIN_KIB) / STEP_KIB) * STEP_KIB
    risk = risk_of(hours)

    def advice(fit: Fit, kib: float, why: str = "") -> SizeAdvice:
        return SizeAdvice(fit, kib / KIB_PER_GIB, None if why else risk, hours, f"{why}; the real need is unknown" if why else "")

    if seconds and waited_besides >= WAITING_SHARE * seconds:
        return advice(Fit.SMALL, max(would_do, sold + STEP_KIB), "the guest waits for memory although mom withholds none")
    if killed and would_do > sold:
        return advice(Fit.SMALL, would_do, "the guest's kernel killed programs")
    if killed or (seconds and waited_for_mom >= WAITING_SHARE * seconds):  # with more memory, it would have used more
        why = "the guest's kernel killed programs" if killed else "the guest waited for memory that mom had taken"
        return SizeAdvice(Fit.UNKNOWN, hours=hours, why=f"{why}; the real need is unknown")
    return advice(Fit.LARGE, would_do) if would_do <= LARGE_SHARE * sold else advice(Fit.FITS, min(would_do, sold))


HOURS_A_MONTH: Final = 730.0

DAY_HOURS: Final = 24

SHORT: Final = 3 * 86_400.0
"""A report of fewer seconds has plots by hours instead of days."""

WHOLE_DAY_HOURS: Final = 20
"""Hours of a day that must be known for the day to count. A morning alone would look like less need."""

SEEN_SHARE: Final = 0.5
"""Share of an hour that must be known for the hour to count as evidence of the guest's need."""


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


def summary_of(account: AccountedHours, by: str, tenant: str, price: float | None, currency: str) -> ReportSummary:
    """Return the figures of a report, summed up from these hours.

    :param by: subject of each line: `class`, `guest`, `host`, or a property of the platform such as `project`
    :param tenant: pattern of guests. A report with a tenant leaves out the host and all other guests
    :param price: price of a GiB of memory for a month; None if not set
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
    groups = [(len(sums.members[name]), replace(total, name=name or f"without a {by}")) for name, total in sorted(sums.groups.items())]
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
        _worth(line, 0.0 if tenant else host.latest["total_kib"], price, currency),
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


def _worth(line: ReportLine, host_kib: float, price: float | None, currency: str) -> Worth | None:
    gib, gib_hours = line.figures["given_back_at_least_gib"], line.figures["given_back_at_least_gib_hours"]
    if gib is None or gib_hours is None:
        return None
    months = gib_hours / HOURS_A_MONTH
    money = None if price is None else months * price
    return Worth(months, price, currency, money, gib * KIB_PER_GIB / host_kib if host_kib else None)


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
