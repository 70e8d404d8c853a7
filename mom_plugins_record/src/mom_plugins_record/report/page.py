"""A report as one page for a mailbox: it loads nothing, runs nothing, and is light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from mom_core import printable
from mom_plugins_record.recording.times import shown
from mom_plugins_record.report.document import Price, gib, means, worth_of
from mom_plugins_record.report.plots import DAY, HOUR, Band, stacked
from mom_plugins_record.report.summary import Line, ReportSummary
from mom_plugins_record.report.terminal import class_cells, class_columns, guest_cells, guest_columns, sections, seen, size

MOST_ROWS: Final = 2000
"""Guests in the table: a page of more is too large for a mailbox; --csv has all."""


def page(summary: ReportSummary, price: Price) -> str:
    """The whole page. What guests and hosts are called is text, whatever it holds."""
    whose = f"guests {summary.tenant}" if summary.tenant else summary.host_name
    parts = [
        f"<h1>{_text(whose)}</h1>",
        f'<p class="soft">{shown(summary.since)[:16]} to {shown(summary.until)[:16]} UTC. {_text(seen(summary))}.</p>',
        *(f'<p class="soft">{_text(remark)}</p>' for remark in summary.remarks),
        _first(summary, price),
        _plots(summary),
    ]
    for heading, rows in sections(summary, price):
        terms = "".join(f"<dt>{_text(name)}</dt><dd>{_text(_spoken(text))}</dd>" for name, text in rows)
        parts.append(f"<h2>{_text(heading)}</h2><dl>{terms}</dl>")
    parts.append(_table(summary))
    parts.append('<p class="soft">What every number means, and how sure it is: docs/report.md of mom. Unknown is not zero.</p>')
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>mom report: {_text(whose)}</title>",
        f"<style>{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}</style>",
    ]
    lines = ["<!doctype html>", '<html lang="en"><head>', *head, "</head>", "<body>", *(part for part in parts if part), "</body></html>"]
    return "\n".join(lines) + "\n"


def _first(summary: ReportSummary, price: Price) -> str:
    """The figures that are read first."""
    cards: list[tuple[str, str]] = []
    whole, worth = summary.whole, worth_of(summary, price)
    if whole.given is not None and summary.seconds:
        cards.append((size(whole.given.at_least / summary.seconds), "given back on average, at least"))
    if worth is not None and worth.money is not None:
        cards.append((f"{worth.money:,.0f} {price.currency}".strip(), "worth, at the price that is set"))
    elif worth is not None and worth.hosts is not None:
        cards.append((f"{worth.hosts:.2g} hosts", "like this one, in memory"))
    if whole.waited_for_mom is not None and whole.seconds:
        cards.append((f"{100 * whole.waited_for_mom / whole.seconds:.2g} %", "of guests' time waited because of mom, at most"))
    promised = whole.promise_kept + whole.promise_broken
    if promised:
        cards.append((f"{100 * whole.promise_kept / promised:.5g} %", "of the time promises were kept"))
    return (
        f'<div class="first">{"".join(f"<div><b>{_text(text)}</b><span>{_text(what)}</span></div>" for text, what in cards)}</div>'
        if cards
        else ""
    )


def _plots(summary: ReportSummary) -> str:
    days, each, often = (summary.hours, HOUR, "hour") if summary.hours else (summary.days, DAY, "day")
    numbers = [day.number for day in days]
    given = {"balloon": "balloon", "sweeps": "sweeps, free page reporting", "ksm": "equal pages (KSM)", "cold": "cold memory"}
    shown_means = {name: text for name, text in given.items() if any(getattr(day, name) for day in days)}
    if not days or summary.whole.given is None:
        return ""
    assert len(means(summary.whole.given)) == len(given)  # noqa: S101  # each means has a band
    bands = [Band("held by guests", "held", [gib(max(0.0, day.held - (day.ksm or 0.0))) for day in days])]
    bands += [Band(text, name, [_gib(getattr(day, name)) for day in days]) for name, text in shown_means.items()]
    sold = Band("sold", "sold", [gib(day.sold) for day in days])
    limit = Band("the host's memory", "limit", [gib(day.total) if day.total else None for day in days])
    used = Band(f"used on the host, at most in the {often}", "used", [gib(day.used_most) if day.total else None for day in days])
    return stacked(f"Memory of guests, average of each {often}", numbers, each, bands, [sold], "GiB") + stacked(
        "Used on the host", numbers, each, [], [used, limit], "GiB"
    )


def _table(summary: ReportSummary) -> str:
    if not summary.lines:
        return ""
    columns = guest_columns() if summary.by == "guest" else class_columns()
    lines: Sequence[Line] = summary.lines[:MOST_ROWS]
    heads = "".join(f"<th>{_text(name)}</th>" for name, _ in columns)
    rows = []
    for line in lines:
        cells = guest_cells(line) if summary.by == "guest" else class_cells(line)
        rows.append("<tr>" + "".join(f"<td{_mood(cell)}>{_text(cell)}</td>" for cell in cells) + "</tr>")
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    left = len(summary.lines) - len(lines)
    more = f" {left} more are in --csv." if left else ""
    return f'<div class="wide">{table}</div><p class="soft">Sizes in GiB.{more}</p>'


def _spoken(text: str) -> str:
    """What stands in columns on a terminal, as a line."""
    return ", ".join(part.strip() for part in text.strip().split("  ") if part.strip())


def _mood(cell: str) -> str:
    return {"too small": ' class="bad"', "too large": ' class="good"'}.get(cell, "")


def _gib(kib: float | None) -> float | None:
    return None if kib is None else gib(kib)


def _text(text: str) -> str:
    return escape(printable(text, 400))
