"""Report for a terminal of 80 columns: results first, then cost, then guests and classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import click

from mom_core import lasting, printable
from mom_daemon import print_prose
from mom_plugins_record.recording.times import format_time
from mom_plugins_record.report.sizes import Fit, Growth
from mom_plugins_record.report.summary import HostLine, ReportLine, ReportSummary, Worth, spare_of, without

UNKNOWN: Final = "unknown"

NAME_WIDTH: Final = 32

FIGURE_WIDTH: Final = 12

GROUP_WIDTH: Final = 24

LEAST_GIB_MONTHS: Final = 0.01
LEAST_HOSTS: Final = 0.1

Row = tuple[str, str]


MEANS: Final = {"balloon": "balloon", "sweeps": "sweeps, free page reporting", "ksm": "equal pages (KSM)", "cold_memory": "cold memory"}


def print_report(summary: ReportSummary) -> None:
    """Print the report."""
    from mom_daemon import TableColumn, print_table

    print_prose(click.style(f"{title(summary)}, {span(summary)}", bold=True), 2)
    print_prose(f"{watched_share(summary)}; {counted_until(summary)}", 2)
    for remark in summary.remarks:
        print_prose(printable(remark, 300), 2)
    figures = list(headline(summary))
    if figures:
        click.echo()
    for figure in figures:
        text = f"{figure.text:>{FIGURE_WIDTH}}"
        print_prose(f"  {click.style(text, fg='red', bold=True) if figure.is_bad else text}  {figure.meaning}", FIGURE_WIDTH + 4)
    for heading, rows in sections(summary):
        click.echo()
        click.echo(click.style(heading, bold=True))
        for name, text in rows:
            print_prose(f"  {name:<{NAME_WIDTH}}{text}", NAME_WIDTH + 2)
    if summary.lines:
        click.echo()
        columns = columns_of(summary)
        print_table(
            [TableColumn(column.heading, column.rank) for column in columns],
            [[column.of(line) for column in columns] for line in summary.lines],
        )
        of_guests = "; reasons for the sizes, and all other figures: --html, --json, --csv; definitions: docs/report.md"
        of_classes = f", summed over all guests of the {summary.by}; KSM: the part known to be theirs; --by guest lists each guest"
        print_prose(f"sizes in GiB{of_guests if summary.by == 'guest' else of_classes}", 2)


def title(summary: ReportSummary) -> str:
    """Return the title: the host or the tenant."""
    return f"Memory of {printable(f'guests {summary.tenant}' if summary.tenant else summary.host_name, 40)}"


def span(summary: ReportSummary) -> str:
    """Return the report's time span."""
    return f"{format_time(summary.since)[:16]} to {format_time(summary.until)[:16]} UTC"


class HeadlineFigure(NamedTuple):
    """Key figure at the top of the report, with its meaning."""

    text: str
    meaning: str
    is_bad: bool = False


def headline(summary: ReportSummary) -> Iterator[HeadlineFigure]:
    """Yield the key figures at the top of the report."""
    whole, host, worth, hours = summary.whole, summary.host, summary.worth, summary.seen_hours
    sold, given_back = whole.sold_parts.sold_gib_hours, whole.given_back.at_least_gib_hours
    if whole.killed is not None:
        worst = max(summary.lines, key=lambda line: line.killed or 0, default=None)
        most = ""
        if worst is not None and worst.killed:
            kind = "guests " if worst.name == without(summary.by) else ""
            most = f", {worst.killed:,} of them in {kind}{printable(worst.name, 40)}"
        known_share = _known_share(whole.killed_known_guest_hours, whole)
        yield HeadlineFigure(f"{whole.killed:,}", f"programs killed in guests for lack of memory{most}{known_share}", whole.killed > 0)
    if whole.promise_kept_percent is not None:
        beside = ", though programs were killed" if whole.killed else ""
        meaning = f"of the time guests had the memory that they were promised{beside}"
        yield HeadlineFigure(f"{whole.promise_kept_percent:.5g} %", meaning, whole.promise_broken_seconds > 0)
    if whole.waited_for_mom_percent is not None:
        known_share = _known_share(whole.waiting_known_guest_hours, whole)
        yield HeadlineFigure(f"{whole.waited_for_mom_percent:.2g} %", f"of guests' time waited because of mom, at most{known_share}")
    if sold is not None and hours:
        times = f", {sold / hours / host.total_gib:.2f} times the host" if host is not None and host.total_gib else ""
        yield HeadlineFigure(size(sold / hours), f"sold to {_guests(whole.guests)}, on average{times}")
    if host is not None and host.used.average_gib is not None and host.total_gib:
        yield HeadlineFigure(size(host.used.average_gib), f"used of the host's {size(host.total_gib)}, on average")
    if given_back is not None and hours:
        yield HeadlineFigure(size(given_back / hours), "given back on average, at least")
    if worth is not None and worth.money is not None:
        yield HeadlineFigure(f"{worth.money:,.0f} {printable(worth.currency, 10)}".strip(), "worth, at the configured price")
    elif worth is not None and worth.hosts is not None and worth.hosts >= LEAST_HOSTS:
        yield HeadlineFigure(f"{worth.hosts:.2g} hosts", "of this size saved, by memory alone")
    if summary.growth is not None and summary.growth.full_on is not None:
        yield HeadlineFigure(format_time(summary.growth.full_on)[:10], "the host will be full, at this growth")


def sections(summary: ReportSummary) -> Iterator[tuple[str, list[Row]]]:
    """Yield sections with headings and rows."""
    whole = summary.whole
    yield "Given back to the host", list(_given_back_rows(summary))
    yield "Worth", list(_worth_rows(summary.worth))
    yield "Memory sold to guests, and its place", list(_sold_rows(whole, summary.seen_hours))
    yield "Cost", list(_cost_rows(whole, summary.host))
    if summary.host is not None:
        yield "Limits of the host", list(_limit_rows(summary, summary.host))
    if summary.by != "guest":
        return
    fits = [line.size.fit for line in summary.lines]
    spare = sum(spare_of(line) for line in summary.lines if line.size.fit is Fit.LARGE)
    yield (
        "Fit of sizes",
        [
            ("too large", f"{_guests(fits.count(Fit.LARGE))}, by {size(spare)} together"),
            *((str(fit), _guests(fits.count(fit))) for fit in (Fit.SMALL, Fit.FITS, Fit.UNKNOWN)),
        ],
    )


def _guests(count: int) -> str:
    return "1 guest" if count == 1 else f"{count} guests"


def counted_until(summary: ReportSummary) -> str:
    """Return, as text, the end of the time that the report covers."""
    age = time.time() - summary.until
    return f"data until {format_time(summary.until)} UTC" + (f", {lasting(age)} ago" if age >= 1 else "")


def watched_share(summary: ReportSummary) -> str:
    """Return, as text, the share of time in which mom was running."""
    if not summary.seen_hours:
        return "mom was not running in this period"
    share = 100 * summary.seen_hours / (summary.seen_hours + summary.unknown_hours)
    watched = lasting(summary.seen_hours * 3600)
    if share > 99.95:
        return f"mom was running in the whole period, {watched}"
    return f"mom was running for {watched} of this period ({share:.3g} %); the other {lasting(summary.unknown_hours * 3600)} are unknown"


def _given_back_rows(summary: ReportSummary) -> Iterator[Row]:
    given_back, hours = summary.whole.given_back, summary.seen_hours
    if given_back.at_least_gib_hours is None or not hours:
        yield "", UNKNOWN
        return
    total = summary.host.total_gib if summary.host else None
    names = {**{label: f"by_{name}" for name, label in MEANS.items()}, "together, at least": "at_least", "at most": "at_most"}
    for label, name in names.items():
        gib_hours: float | None = getattr(given_back, f"{name}_gib_hours")
        if gib_hours is None:
            yield label, UNKNOWN
            continue
        of_host = f"{100 * gib_hours / hours / total:>5.1f} % of the host" if total else ""
        yield label, f"{size(gib_hours / hours):>10} {_amount(gib_hours):>9} GiB h {of_host}".rstrip()


def _worth_rows(worth: Worth | None) -> Iterator[Row]:
    if worth is None:
        yield "", UNKNOWN
        return
    if worth.money is not None:
        currency = f" {printable(worth.currency, 10)}" if worth.currency else ""
        yield (
            "at the configured price",
            f"{worth.money:,.2f}{currency} ({worth.gib_months:,.4g} GiB months, {worth.price_per_gib_month:g} each)",
        )
    else:
        text = f"{worth.gib_months:,.4g} GiB months; set `price` (record plugin) to see the worth in money"
        yield "memory", text if worth.gib_months >= LEAST_GIB_MONTHS else "too little to price yet"
    if worth.hosts is not None and worth.hosts >= LEAST_HOSTS:
        yield "hosts of this size", f"{worth.hosts:.2g}"


def _sold_rows(whole: ReportLine, hours: float) -> Iterator[Row]:
    parts = whole.sold_parts
    if parts.sold_gib_hours is None or not hours:
        yield "", UNKNOWN
        return
    merged = whole.given_back.by_ksm_gib_hours
    for label, gib_hours, more in (
        ("sold", parts.sold_gib_hours, ""),
        ("held by guests' processes", parts.held_gib_hours, f", of which KSM has merged {size(merged / hours)}" if merged else ""),
        ("in the host's swap", parts.swapped_gib_hours, ""),
        ("in balloons", parts.ballooned_gib_hours, ""),
        ("never touched, or given back", parts.untaken_gib_hours, ""),
    ):
        yield label, size((gib_hours or 0.0) / hours) + more
    if parts.beyond_gib_hours:
        yield "held beyond guests' memory", f"{size(parts.beyond_gib_hours / hours)}, which is not sold"
    yield "used inside guests", _size(whole.used_gib)


def _cost_rows(whole: ReportLine, host: HostLine | None) -> Iterator[Row]:
    of_all = "" if whole.guests == 1 else ", summed over guests"
    if whole.waited_seconds is None or whole.waited_for_mom_seconds is None:
        yield "guests waited for memory", UNKNOWN
    else:
        share, known_share = whole.waited_for_mom_percent or 0.0, _known_share(whole.waiting_known_guest_hours, whole)
        because = f"{seconds_text(whole.waited_for_mom_seconds)} ({share:.2g} % of guests' time{known_share}){of_all}"
        yield "waited because of mom, at most", because
        yield "waited for other reasons", f"{seconds_text(whole.waited_seconds - whole.waited_for_mom_seconds)}{of_all}"
    yield "bursts that grew late", UNKNOWN if whole.late_bursts is None else f"{whole.late_bursts:,}"
    killed = UNKNOWN if whole.killed is None else f"{whole.killed:,}{_known_share(whole.killed_known_guest_hours, whole)}"
    yield "programs killed in guests", killed
    if whole.promise_kept_percent is not None:
        for_long = f"broken for {seconds_text(whole.promise_broken_seconds)}{of_all}"
        broken = for_long if whole.promise_broken_seconds else "never broken"
        yield "promises kept", f"{whole.promise_kept_percent:.5g} % of the time, {broken}"
    else:
        yield "promises kept", "no guest had a promise"
    if host is None:
        return
    yield "evictions of guests", f"{host.evictions:,} times"
    yield "CPU of mom", _cpu(host.mom_cpu_seconds, host.mom_known_hours)
    yield "CPU of ksmd", _cpu(host.ksmd_cpu_seconds, host.ksmd_known_hours)


def _known_share(hours: float, line: ReportLine) -> str:
    share = hours / line.seen_guest_hours if line.seen_guest_hours else 1.0
    return "" if share > 0.995 else f"; known for {100 * share:.2g} % of their time"


def _cpu(busy: float | None, hours: float) -> str:
    return UNKNOWN if busy is None or not hours else f"{seconds_text(busy)} ({busy / 36 / hours:.2g} % of one CPU)"


def _limit_rows(summary: ReportSummary, host: HostLine) -> Iterator[Row]:
    used = host.used
    if host.total_gib is None or used.average_gib is None or used.p95_gib is None or host.available_least_gib is None:
        yield "", UNKNOWN
    else:
        yield "used, of " + size(host.total_gib), f"{size(used.average_gib)} on average, at most {size(used.p95_gib)} in 95 % of the time"
        reserve = f" (wanted: {size(host.wanted_gib)})" if host.wanted_gib is not None else ""
        yield "available, at least", size(host.available_least_gib) + reserve
    sold = f"{size(host.sold_most_gib)} to {_guests(host.guests_most)}"
    yield "sold, at most", sold + (f", {host.sold_most_gib / host.total_gib:.2f} times the host" if host.total_gib else "")
    if host.promised_most_gib:
        yield "promised, at most", f"{size(host.promised_most_gib)} of {_size(host.promisable_gib)}"
    yield "less available than wanted", _seconds(host.below_wanted_seconds)
    yield "below the low watermark", _seconds(host.below_low_seconds)
    yield "below the hard watermark", _seconds(host.below_hard_seconds)
    yield "tasks waited for memory", _seconds(host.stalled_seconds)
    if summary.growth is not None:
        yield "full, at this growth", growth_text(summary.growth, summary.until)
    if (forecast := summary.forecast) is not None:
        as_now = f"without forecasts: {size(forecast.as_now_wrong_by_gib)}"
        yield "forecasts of the next hour", f"error {size(forecast.wrong_by_gib)}, summed over guests; {as_now}"


def growth_text(growth: Growth, last: float) -> str:
    """Return, as text, when the host will be full.

    :param last: end of the known time, in seconds since the epoch
    """
    if growth.gib_each_week is None or growth.gib_each_week_least is None or growth.gib_each_week_most is None:
        return f"{UNKNOWN}: {growth.why_unknown}"
    least, most = _signed(growth.gib_each_week_least), _signed(growth.gib_each_week_most)
    changes = f"needed memory changes by {_signed(growth.gib_each_week)} a week, {least} to {most} (95 %)"
    if growth.why_unknown:
        return f"{UNKNOWN}: {growth.why_unknown}; {changes}"
    if growth.full_on == last:
        return f"full now: {changes}"
    full = "not in two years" if growth.full_on is None else format_time(growth.full_on)[:10]
    early = "" if growth.full_on_earliest is None else f", at the earliest {format_time(growth.full_on_earliest)[:10]}"
    return f"{full}{early}: {changes}"


def _signed(gib: float) -> str:
    return f"{'-' if gib < 0 else '+'}{size(abs(gib))}"


def _given_back_text(line: ReportLine) -> str:
    if not line.sold_gib or line.sold_parts.sold_gib_hours is None or line.given_back.at_least_gib_hours is None:
        return "-"
    return _gib(line.given_back.at_least_gib_hours * line.sold_gib / line.sold_parts.sold_gib_hours)


def _waited_text(line: ReportLine) -> str:
    return "-" if line.waited_for_mom_seconds is None else seconds_text(line.waited_for_mom_seconds)


class ReportColumn(NamedTuple):
    """Column of the table of guests or groups. A narrow terminal drops the highest ranks first."""

    heading: str
    rank: int
    of: Callable[[ReportLine], str]


GUEST_COLUMNS: Final = (
    ReportColumn("guest", 0, lambda line: printable(line.name, 40)),
    ReportColumn("sold", 0, lambda line: _gib(line.sold_gib)),
    ReportColumn("enough", 0, lambda line: _gib(line.size.would_do_gib)),
    ReportColumn("fit", 0, lambda line: line.size.fit),
    ReportColumn("risk", 1, lambda line: "-" if line.size.risk is None else f"{100 * line.size.risk:.2g} %"),
    ReportColumn("used", 3, lambda line: _gib(line.used_by_a_guest.average_gib)),
    ReportColumn("used p95", 2, lambda line: _gib(line.used_by_a_guest.p95_gib)),
    ReportColumn("used most", 4, lambda line: _gib(line.used_by_a_guest.most_gib)),
    ReportColumn("held", 2, lambda line: _gib(line.held_gib)),
    ReportColumn("held p95", 7, lambda line: _gib(line.held_by_a_guest.p95_gib)),
    ReportColumn("had", 6, lambda line: _gib(line.had_gib)),
    ReportColumn("given back", 5, _given_back_text),
    ReportColumn("waited", 3, _waited_text),
    ReportColumn("class", 8, lambda line: printable(line.service_class, 20)),
)
GROUP_COLUMNS: Final = (
    ReportColumn("guests", 0, lambda line: str(line.guests)),
    ReportColumn("sold", 0, lambda line: _gib(line.sold_gib)),
    ReportColumn("had", 2, lambda line: _gib(line.had_gib)),
    ReportColumn("held", 0, lambda line: _gib(line.held_gib)),
    ReportColumn("used", 1, lambda line: _gib(line.used_gib)),
    ReportColumn("given back", 0, _given_back_text),
    ReportColumn("waited", 1, _waited_text),
    ReportColumn("killed", 3, lambda line: "-" if line.killed is None else str(line.killed)),
    ReportColumn("kept", 1, lambda line: "-" if line.promise_kept_percent is None else f"{line.promise_kept_percent:.5g} %"),
)


def columns_of(summary: ReportSummary) -> Sequence[ReportColumn]:
    """Return the table's columns, for guests or groups of guests."""
    if summary.by == "guest":
        return GUEST_COLUMNS
    return (ReportColumn(summary.by, 0, lambda line: printable(line.name, GROUP_WIDTH)), *GROUP_COLUMNS)


def size(gib: float) -> str:
    """Format a size in GiB."""
    return f"{gib:,.2f} GiB"


def _size(gib: float | None) -> str:
    return UNKNOWN if gib is None else size(gib)


def _gib(gib: float | None) -> str:
    return "-" if gib is None else f"{gib:.2f}"


def _seconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else seconds_text(seconds)


def _amount(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:,.3g}"


def seconds_text(seconds: float) -> str:
    """Format a duration in seconds."""
    return f"{seconds:,.1f} s" if seconds < 600 else f"{seconds / 3600:,.2f} h"
