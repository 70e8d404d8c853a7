"""A report for a person at a terminal: what came of it first, then what it cost, then guests and classes; at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from mom_core import lasting, print_prose, printable
from mom_plugins_record.recording.times import shown
from mom_plugins_record.report.document import Price, gib, gib_hours, means, worth_of
from mom_plugins_record.report.growth import Growth
from mom_plugins_record.report.sizes import Fit
from mom_plugins_record.report.summary import HostLine, Line, ReportSummary

UNKNOWN: Final = "unknown"

NAME_WIDTH: Final = 32

Row = tuple[str, str]


def print_report(summary: ReportSummary, price: Price) -> None:
    """Print it."""
    from mom_cli import TableColumn, print_table

    whose = f"guests {printable(summary.tenant, 40)}" if summary.tenant else printable(summary.host_name, 40)
    print_prose(click.style(f"{whose}, {shown(summary.since)[:16]} to {shown(summary.until)[:16]} UTC", bold=True), 2)
    print_prose(seen(summary), 2)
    for remark in summary.remarks:
        print_prose(printable(remark, 300), 2)
    for heading, rows in sections(summary, price):
        click.echo()
        click.echo(click.style(heading, bold=True))
        for name, text in rows:
            print_prose(f"  {name:<{NAME_WIDTH}}{text}", NAME_WIDTH + 2)
    if summary.lines:
        click.echo()
        columns = guest_columns() if summary.by == "guest" else class_columns()
        cells = [guest_cells(line) if summary.by == "guest" else class_cells(line) for line in summary.lines]
        print_table([TableColumn(name, rank) for name, rank in columns], cells)
        if summary.by == "guest":
            print_prose(
                "sizes in GiB; why a size would do, and all other figures: --html, --json, --csv; what they mean: docs/report.md", 2
            )
        else:
            print_prose("sizes in GiB, of all guests of the class together; --by guest has each guest", 2)


def sections(summary: ReportSummary, price: Price) -> Iterator[tuple[str, list[Row]]]:
    """What is said of all guests and of the host: headings, with rows of a name and a text."""
    whole = summary.whole
    yield "Given back to the host", list(_given(summary))
    yield "Worth", list(_worth(summary, price))
    yield "What guests were sold, and where it was", list(_sold(whole, summary.seconds))
    yield "What it cost", list(_cost(whole, summary.host))
    if summary.host is not None:
        yield "How near the host was to its limits", list(_limits(summary, summary.host))
    if summary.by != "guest":
        return
    fits = [line.advice.fit if line.advice else Fit.UNKNOWN for line in summary.lines]
    spare = sum(
        line.sold - line.advice.would_do
        for line in summary.lines
        if line.advice and line.advice.fit is Fit.LARGE and line.advice.would_do is not None and line.sold is not None
    )
    yield (
        "What was bought",
        [
            ("too large", f"{_guests(fits.count(Fit.LARGE))}, by {size(spare)} together"),
            ("too small", _guests(fits.count(Fit.SMALL))),
            ("fits", _guests(fits.count(Fit.FITS))),
            ("unknown", _guests(fits.count(Fit.UNKNOWN))),
        ],
    )


def _guests(count: int) -> str:
    return "1 guest" if count == 1 else f"{count} guests"


def seen(summary: ReportSummary) -> str:
    """How much of the time mom watched."""
    span = summary.until - summary.since
    unknown = max(0.0, span - summary.seconds)
    if not summary.seconds:
        return "mom watched none of it: nothing is known"
    share = 100 * summary.seconds / span if span else 100.0
    if share > 99.95:
        return f"mom watched all of it, {lasting(summary.seconds)}"
    return f"mom watched {lasting(summary.seconds)} of it ({share:.3g} %); of the other {lasting(unknown)} nothing is known"


def _given(summary: ReportSummary) -> Iterator[Row]:
    given, seconds = summary.whole.given, summary.seconds
    if given is None or not seconds:
        yield "", UNKNOWN
        return
    total = summary.host.total if summary.host else None

    def text(kib_seconds: float | None) -> str:
        if kib_seconds is None:
            return UNKNOWN
        of_host = f"{100 * kib_seconds / seconds / total:>5.1f} % of the host" if total else ""
        return f"{size(kib_seconds / seconds):>10} {_amount(gib_hours(kib_seconds)):>9} GiB h {of_host}".rstrip()

    for name, kib_seconds in means(given):
        yield name, text(kib_seconds)
    yield "together, at least", text(given.at_least)
    yield "at most", text(given.at_most)


def _worth(summary: ReportSummary, price: Price) -> Iterator[Row]:
    worth = worth_of(summary, price)
    if worth is None:
        yield "", UNKNOWN
        return
    if worth.money is not None and price.each_gib_month is not None:
        currency = f" {printable(price.currency, 10)}" if price.currency else ""
        yield (
            "at the price that is set",
            f"{worth.money:,.2f}{currency} ({worth.gib_months:,.4g} GiB months, {price.each_gib_month:g} each)",
        )
    else:
        yield "memory", f"{worth.gib_months:,.4g} GiB months; the setting `price` of the plugin record makes it money"
    if worth.hosts is not None:
        yield "hosts like this one", f"{worth.hosts:.2g}"


def _sold(whole: Line, seconds: float) -> Iterator[Row]:
    parts = whole.parts
    if parts is None or not seconds:
        yield "", UNKNOWN
        return
    yield "sold", size(parts.sold / seconds)
    yield "held by guests' processes", size(parts.held / seconds)
    yield "in the host's swap", size(parts.swapped / seconds)
    yield "in balloons", size(parts.ballooned / seconds)
    yield "not taken, or given back", size(parts.untaken / seconds)
    if parts.beyond:
        yield "held beside guests' memory", f"less {size(parts.beyond / seconds)}"
    yield "used, as guests say", UNKNOWN if whole.uses is None else size(whole.uses)


def _cost(whole: Line, host: HostLine | None) -> Iterator[Row]:
    if whole.waited is None or whole.waited_for_mom is None:
        yield "guests waited for memory", UNKNOWN
    else:
        share = 100 * whole.waited_for_mom / whole.seconds if whole.seconds else 0.0
        yield "waited because of mom, at most", f"{seconds_text(whole.waited_for_mom)} ({share:.2g} % of guests' time)"
        yield "waited besides", seconds_text(whole.waited - whole.waited_for_mom)
    yield "bursts that grew late", UNKNOWN if whole.late_bursts is None else f"{whole.late_bursts:,}"
    yield "programs killed in guests", UNKNOWN if whole.killed is None else f"{whole.killed:,}"
    promised = whole.promise_kept + whole.promise_broken
    if promised:
        kept = 100 * whole.promise_kept / promised
        broken = f"broken for {seconds_text(whole.promise_broken)}" if whole.promise_broken else "never broken"
        yield "promises kept", f"{kept:.5g} % of the time, {broken}"
    else:
        yield "promises kept", "no guest was promised anything"
    if host is None:
        return
    yield "guests that had to go", f"{host.evictions:,} times"
    yield "CPU of mom", _cpu(host.mom_cpu, host.mom_seconds)
    yield "CPU of ksmd", _cpu(host.ksmd_cpu, host.ksmd_seconds)


def _cpu(busy: float | None, seconds: float) -> str:
    return UNKNOWN if busy is None or not seconds else f"{seconds_text(busy)} ({100 * busy / seconds:.2g} % of one CPU)"


def _limits(summary: ReportSummary, host: HostLine) -> Iterator[Row]:
    if host.total is None or host.used is None or host.available_least is None:
        yield "", UNKNOWN
    else:
        used = f"{size(host.used.average)} on average, {size(host.used.p95)} for 95 %"
        yield "used", f"{used} of the time, of {size(host.total)}"
        wanted = f" (wanted: {size(host.wanted)})" if host.wanted is not None else ""
        yield "available, at least", size(host.available_least) + wanted
    sold = f"{size(host.sold_most)} to {_guests(host.guests_most)}"
    yield "sold, at most", sold + (f", {host.sold_most / host.total:.2f} times the host" if host.total else "")
    if host.promised_most:
        yield "promised, at most", f"{size(host.promised_most)} of {size(host.promisable) if host.promisable else UNKNOWN}"
    if host.below_wanted is None:
        yield "less available than wanted", UNKNOWN
    else:
        yield "less available than wanted", seconds_text(host.below_wanted)
        yield "less than is hard, than is low", f"{seconds_text(host.below_hard or 0.0)}, {seconds_text(host.below_low or 0.0)}"
    yield "tasks waited for memory", UNKNOWN if host.stalled is None else seconds_text(host.stalled)
    if summary.growth is not None:
        yield "full, at this growth", growth_text(summary.growth, summary.until)


def growth_text(growth: Growth, last: float) -> str:
    """When the host will be full."""
    if growth.each_day is None or growth.least is None or growth.most is None:
        return f"{UNKNOWN}: {growth.why}"
    each_week = f"{_signed(growth.each_day * 7)} a week, {_signed(growth.least * 7)} to {_signed(growth.most * 7)} (95 %)"
    if growth.why:
        return f"{UNKNOWN}: {growth.why}; what is needed changes by {each_week}"
    if growth.full_in == 0:
        return f"it is: what is needed changes by {each_week}"
    full = "not in two years" if growth.full_in is None else shown(last + growth.full_in * 86_400)[:10]
    early = "" if growth.earliest is None else f", at the earliest {shown(last + growth.earliest * 86_400)[:10]}"
    return f"{full}{early}: what is needed changes by {each_week}"


def _signed(kib: float) -> str:
    return f"{'-' if kib < 0 else '+'}{size(abs(kib))}"


def guest_columns() -> list[tuple[str, int]]:
    """Headings of the table of guests, each with its rank: those of the highest are left out first."""
    return [
        ("guest", 0), ("sold", 0), ("would do", 0), ("fit", 0), ("risk", 1), ("used", 3), ("used p95", 2), ("used most", 4), ("held", 2),
        ("held p95", 7), ("had", 6), ("given back", 5), ("waited", 3), ("class", 8),
    ]  # fmt: skip


def guest_cells(line: Line) -> list[str]:
    """A guest's row."""
    advice = line.advice
    return [
        printable(line.name, 40),
        _in_gib(line.sold),
        _in_gib(advice.would_do if advice else None),
        advice.fit if advice else Fit.UNKNOWN,
        "-" if advice is None or advice.risk is None else f"{100 * advice.risk:.2g} %",
        _in_gib(line.used.average if line.used else None),
        _in_gib(line.used.p95 if line.used else None),
        _in_gib(line.used.most if line.used else None),
        _in_gib(line.holds),
        _in_gib(line.held.p95 if line.held else None),
        _in_gib(line.had),
        _in_gib(line.given.at_least / line.seconds if line.given and line.seconds else None),
        "-" if line.waited_for_mom is None else seconds_text(line.waited_for_mom),
        printable(line.service_class, 20),
    ]


def class_columns() -> list[tuple[str, int]]:
    """The same of the table of classes."""
    return [
        ("class", 0), ("guests", 0), ("sold", 0), ("had", 2), ("held", 0), ("used", 1), ("given back", 0), ("waited", 1), ("killed", 3),
        ("kept", 1),
    ]  # fmt: skip


def class_cells(line: Line) -> list[str]:
    """A class's row."""
    promised = line.promise_kept + line.promise_broken
    span = line.parts.sold / line.sold if line.parts and line.sold else 0.0
    return [
        printable(line.name, 20),
        str(line.guests),
        _in_gib(line.sold),
        _in_gib(line.had),
        _in_gib(line.holds),
        _in_gib(line.uses),
        _in_gib(line.given.at_least / span if line.given and span else None),
        "-" if line.waited_for_mom is None else seconds_text(line.waited_for_mom),
        "-" if line.killed is None else str(line.killed),
        f"{100 * line.promise_kept / promised:.5g} %" if promised else "-",
    ]


def size(kib: float) -> str:
    """A size in GiB for a person."""
    return f"{gib(kib):,.2f} GiB"


def _amount(number: float) -> str:
    """With three digits that count, and no fraction from 100 on."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:,.3g}"


def seconds_text(seconds: float) -> str:
    """A time that was waited or used."""
    return f"{seconds:,.1f} s" if seconds < 600 else f"{seconds / 3600:,.2f} h"


def _in_gib(kib: float | None) -> str:
    return "-" if kib is None else f"{gib(kib):.2f}"
