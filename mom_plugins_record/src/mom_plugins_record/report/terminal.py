"""Report for a terminal of 80 columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import click

from mom_core import count_of, lasting, printable
from mom_daemon import TableColumn, print_prose, print_table
from mom_plugins_record.recording.reader import format_time
from mom_plugins_record.report.summary import Figures, Growth, ReportLine, ReportSummary, Worth

UNKNOWN: Final = "unknown"

NAME_WIDTH: Final = 32

GROUP_WIDTH: Final = 24

Row = tuple[str, str]


MEANS: Final = {"balloon": "balloon", "sweeps": "sweeps, free page reporting", "ksm": "equal pages (KSM)", "cold": "cold memory"}


def print_report(summary: ReportSummary) -> None:
    """Print the report."""
    print_prose(click.style(f"{title(summary)}, {span(summary)}", bold=True), 2)
    print_prose(f"{watched_share(summary)}; {counted_until(summary)}", 2)
    for remark in summary.remarks:
        print_prose(printable(remark, 300), 2)
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
        of_guests = "; --html and --json add reasons and all other figures; docs/report.md defines them"
        of_classes = f", summed over all guests of the {summary.by}; KSM only where known per guest; --by guest lists each guest"
        print_prose(f"sizes in GiB{of_guests if summary.by == 'guest' else of_classes}", 2)


def title(summary: ReportSummary) -> str:
    """Return the title with the host or the tenant."""
    return f"Memory of {printable(f'guests {summary.tenant}' if summary.tenant else summary.host_name, 40)}"


def span(summary: ReportSummary) -> str:
    """Return the report's time span."""
    return f"{format_time(summary.since)[:16]} to {format_time(summary.until)[:16]} UTC"


def sections(summary: ReportSummary) -> Iterator[tuple[str, list[Row]]]:
    """Yield each section's heading and rows."""
    yield "Cost", list(_cost_rows(summary))
    yield "Given back to the host", list(_given_back_rows(summary))
    yield "Worth", list(_worth_rows(summary.worth))
    yield "Memory sold to guests, and where it is", list(_sold_rows(summary.whole.figures))
    if summary.host is not None:
        yield "Limits of the host", list(_limit_rows(summary, summary.host))


def counted_until(summary: ReportSummary) -> str:
    """Return the end of the covered time as text."""
    age = time.time() - summary.until
    return f"data until {format_time(summary.until)} UTC" + (f", {lasting(age)} ago" if age >= 1 else "")


def watched_share(summary: ReportSummary) -> str:
    """Return the share of time in which mom ran, as text."""
    if not summary.seen_hours:
        return "mom was not running in this period"
    share = 100 * summary.seen_hours / (summary.seen_hours + summary.unknown_hours)
    watched = lasting(summary.seen_hours * 3600)
    if share > 99.95:
        return f"mom was running in the whole period, {watched}"
    return f"mom was running for {watched} of this period ({share:.3g} %); the other {lasting(summary.unknown_hours * 3600)} are unknown"


def _given_back_rows(summary: ReportSummary) -> Iterator[Row]:
    figures, total = summary.whole.figures, (summary.host or {}).get("total_gib")
    names = {**{label: name for name, label in MEANS.items()}, "together, at least": "at_least", "at most": "at_most"}
    for label, name in names.items():
        gib, gib_hours = figures[f"given_back_{name}_gib"], figures[f"given_back_{name}_gib_hours"]
        if gib is None or gib_hours is None:
            yield label, UNKNOWN
            continue
        of_host = f"{100 * gib / total:>5.1f} % of the host" if total else ""
        yield label, f"{size(gib):>10} {_amount(gib_hours):>9} GiB h {of_host}".rstrip()


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
        yield "memory", f"{worth.gib_months:,.4g} GiB months; set `price` (record plugin) to see the worth in money"
    if worth.hosts is not None:
        yield "hosts of this size", f"{worth.hosts:.2g}"


def _sold_rows(whole: Figures) -> Iterator[Row]:
    merged, beyond = whole["given_back_ksm_gib"], whole["beyond_gib"]
    yield "sold", size(whole["sold_gib"])
    yield "held by guests' processes", size(whole["held_gib"]) + (f", of which KSM has merged {size(merged)}" if merged else "")
    yield "in the host's swap", size(whole["swapped_gib"])
    yield "in balloons", size(whole["ballooned_gib"])
    yield "never touched, or given back", size(whole["untaken_gib"])
    if beyond:
        yield "held beyond guests' memory", f"{size(beyond)}, which is not sold"
    yield "used inside guests", size(whole["used_gib"])


def _cost_rows(summary: ReportSummary) -> Iterator[Row]:
    whole, host = summary.whole.figures, summary.host
    of_all = "" if summary.whole.guests == 1 else ", summed over guests"
    waited, for_mom = whole["waited_seconds"], whole["waited_for_mom_seconds"]
    if waited is None or for_mom is None:
        yield "guests waited for memory", UNKNOWN
    else:
        share = f"{whole['waited_for_mom_percent'] or 0.0:.2g} % of guests' time{_known_share('waiting', whole)}"
        yield "waited because of mom, at most", f"{seconds_text(for_mom)} ({share}){of_all}"
        yield "waited for other reasons", f"{seconds_text(waited - for_mom)}{of_all}"
    yield "programs killed in guests", _count(whole["killed"]) + ("" if whole["killed"] is None else _known_share("killed", whole))
    if (kept := whole["promise_kept_percent"]) is not None:
        broken = (
            f"broken for {seconds_text(whole['promise_broken_seconds'])}{of_all}" if whole["promise_broken_seconds"] else "never broken"
        )
        yield "promises kept", f"{kept:.5g} % of the time, {broken}"
    else:
        yield "promises kept", "no guest had a promise"
    if host is not None:
        yield "evictions of guests", f"{host['evictions']:,} times"
        for name in ("mom", "ksmd"):
            share = "" if (percent := host[f"{name}_cpu_percent"]) is None else f" ({percent:.2g} % of one CPU)"
            yield f"CPU of {name}", seconds_text(host[f"{name}_cpu_seconds"]) + share


def _known_share(name: str, line: Figures) -> str:
    share = (line[f"{name}_known_guest_hours"] or 0.0) / (line["seen_guest_hours"] or 1.0)
    return "" if share > 0.995 or not line["seen_guest_hours"] else f"; known for {100 * share:.2g} % of guests' time"


def _limit_rows(summary: ReportSummary, host: Figures) -> Iterator[Row]:
    total, used = host["total_gib"], host["used_average_gib"]
    if total is None or used is None:
        yield "", UNKNOWN
    else:
        yield f"used, of {size(total)}", f"{size(used)} on average, at most {size(host['used_p95_gib'])} in 95 % of the time"
        reserve = f" (wanted: {size(host['wanted_gib'])})" if host["wanted_gib"] is not None else ""
        yield "available, at least", size(host["available_least_gib"]) + reserve
    sold = host["sold_most_gib"]
    times = f", {(sold or 0.0) / total:.2f} times the host" if total else ""
    yield "sold, at most", f"{size(sold)} to {count_of(int(host['guests_most'] or 0), 'guest')}{times}"
    if host["promised_most_gib"]:
        yield "promised, at most", f"{size(host['promised_most_gib'])} of {size(host['promisable_gib'])}"
    yield "less available than wanted", seconds_text(host["below_wanted_seconds"])
    yield "tasks waited for memory", seconds_text(host["stalled_seconds"])
    if summary.growth is not None:
        yield "full, at this growth", growth_text(summary.growth, summary.until)


def growth_text(growth: Growth, last: float) -> str:
    """Return when the host will be full, as text.

    :param last: end of the known time, in seconds since the epoch
    """
    if growth.why_unknown:
        return f"{UNKNOWN}: {growth.why_unknown}"
    week, least, most = map(_signed, (growth.gib_each_week, growth.gib_each_week_least, growth.gib_each_week_most))
    changes = f"needed memory changes by {week} a week, {least} to {most} (95 %)"
    if growth.full_on == last:
        return f"full now: {changes}"
    full = "not in two years" if growth.full_on is None else format_time(growth.full_on)[:10]
    early = "" if growth.full_on_earliest is None else f", at the earliest {format_time(growth.full_on_earliest)[:10]}"
    return f"{full}{early}: {changes}"


def _signed(gib: float | None) -> str:
    return UNKNOWN if gib is None else f"{gib:+,.2f} GiB"


class ReportColumn(NamedTuple):
    """Column of the table of guests or groups. A narrow terminal drops columns of the highest ranks first."""

    heading: str
    rank: int
    of: Callable[[ReportLine], str]


def _sized(heading: str, rank: int, name: str) -> ReportColumn:
    return ReportColumn(heading, rank, lambda line: _gib(line.figures[name]))


_WAITED: Final = "waited_for_mom_seconds"

GUEST_COLUMNS: Final = (
    ReportColumn("guest", 0, lambda line: printable(line.name, 40)),
    _sized("sold", 0, "sold_gib"),
    ReportColumn("enough", 0, lambda line: _gib(line.size.would_do_gib)),
    ReportColumn("fit", 0, lambda line: line.size.fit),
    ReportColumn("risk", 1, lambda line: "-" if line.size.risk is None else f"{100 * line.size.risk:.2g} %"),
    _sized("used", 3, "used_average_gib"),
    _sized("used p95", 2, "used_p95_gib"),
    _sized("held", 2, "held_gib"),
    _sized("given back", 5, "given_back_at_least_gib"),
    ReportColumn("waited", 3, lambda line: seconds_text(line.figures[_WAITED], "-")),
    ReportColumn("class", 8, lambda line: printable(line.service_class, 20)),
)
GROUP_COLUMNS: Final = (
    ReportColumn("guests", 0, lambda line: str(line.guests)),
    _sized("sold", 0, "sold_gib"),
    _sized("had", 2, "had_gib"),
    _sized("held", 0, "held_gib"),
    _sized("used", 1, "used_gib"),
    _sized("given back", 0, "given_back_at_least_gib"),
    ReportColumn("waited", 1, lambda line: seconds_text(line.figures[_WAITED], "-")),
    ReportColumn("killed", 3, lambda line: _count(line.figures["killed"], "-")),
    ReportColumn("kept", 1, lambda line: "-" if (kept := line.figures["promise_kept_percent"]) is None else f"{kept:.5g} %"),
)


def columns_of(summary: ReportSummary) -> Sequence[ReportColumn]:
    """Return the table's columns, for guests or groups of guests."""
    if summary.by == "guest":
        return GUEST_COLUMNS
    return (ReportColumn(summary.by, 0, lambda line: printable(line.name, GROUP_WIDTH)), *GROUP_COLUMNS)


def size(gib: float | None) -> str:
    """Format a size in GiB."""
    return UNKNOWN if gib is None else f"{gib:,.2f} GiB"


def _gib(gib: float | None) -> str:
    return "-" if gib is None else f"{gib:.2f}"


def _count(number: float | None, unknown: str = UNKNOWN) -> str:
    return unknown if number is None else f"{number:,}"


def _amount(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:,.3g}"


def seconds_text(seconds: float | None, unknown: str = UNKNOWN) -> str:
    """Format a duration in seconds."""
    return unknown if seconds is None else f"{seconds:,.1f} s" if seconds < 600 else f"{seconds / 3600:,.2f} h"
