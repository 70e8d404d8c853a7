"""Report as one HTML page for e-mail, without other files or scripts."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import MomError, printable
from mom_plugins_record.report.summary import ReportSummary
from mom_plugins_record.report.terminal import MEANS, columns_of, counted_until, sections, span, title, watched_share

HELD: Final = "held by guests"

_AREAS: Final = ("#8b98a8", "#2f6fde", "#18a0a0", "#8a5cd6", "#d9822b")
_LINES: Final = ("#7b8794", "#c8323c")
_INK: Final = "#808890"

_SECONDS_A_DAY: Final = 86_400


class Curve(NamedTuple):
    """Line of a plot, with a gap where a value is None (unknown)."""

    label: str
    values: Sequence[float | None]
    dashed: bool = False


def plot(title: str, times: Sequence[float], areas: Mapping[str, Sequence[float]], lines: Sequence[Curve]) -> str:
    """Return a plot, as SVG, of stacked areas with lines in front. Raise `MomError` if matplotlib is missing.

    :param times: seconds since the epoch
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # hide a warning: the user mom has no home for the cache
    try:
        from matplotlib import rc_context
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MomError("pictures need matplotlib", hint="install matplotlib for mom's Python (Debian: python3-matplotlib)") from error
    out, days = io.StringIO(), [time / _SECONDS_A_DAY for time in times]  # matplotlib's time format
    with rc_context(
        {
            "font.size": 9,
            "svg.fonttype": "none",
            "svg.hashsalt": "mom",
            # Names of guests are plain text, not formulas.
            **dict.fromkeys(("text.parse_math", "text.usetex", "axes.spines.top", "axes.spines.right"), False),
            **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
        }
    ):
        figure = Figure(figsize=(8.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        if areas:
            axes.stackplot(days, *areas.values(), labels=list(areas), colors=_AREAS, linewidth=0)
        for line, colour in zip(lines, _LINES, strict=False):
            values = [math.nan if value is None else value for value in line.values]
            axes.plot(days, values, label=line.label, color=colour, linewidth=1.6, linestyle="--" if line.dashed else "-")
        axes.set_xlim(days[0], days[-1])
        axes.set_ylim(bottom=0)
        axes.xaxis_date()
        locator = AutoDateLocator(minticks=4, maxticks=10)  # type: ignore[no-untyped-call]  # untyped library; with 5 ticks, 4 h 40 min has none
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # untyped library
        axes.set_title(title, loc="left", fontsize=10)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, -0.34), frameon=False, fontsize=8, ncols=6)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = out.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


_MOODS: Final = {"too small": ' class="bad"', "too large": ' class="good"'}


def page(summary: ReportSummary) -> str:
    """Return the report as an HTML page. Raise `MomError` if matplotlib is missing."""
    parts = [
        f"<h1>{_text(title(summary))}</h1>",
        f'<p class="soft">{span(summary)}. {_text(watched_share(summary))}; {_text(counted_until(summary))}.</p>',
        *(f'<p class="soft">{_text(remark)}</p>' for remark in summary.remarks),
        *_plots(summary),
    ]
    for heading, rows in sections(summary):
        terms = "".join(f"<dt>{_text(name)}</dt><dd>{_text(_in_a_line(text))}</dd>" for name, text in rows)
        parts.append(f"<h2>{_text(heading)}</h2><dl>{terms}</dl>")
    parts.append(_table(summary))
    parts.append('<p class="soft">The page docs/report.md of mom explains every number and its accuracy. Unknown does not mean zero.</p>')
    head = [
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>mom report: {_text(title(summary))}</title>",
        f"<style>{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}</style>",
    ]
    lines = ["<!doctype html>", '<html lang="en"><head>', *head, "</head>", "<body>", *(part for part in parts if part), "</body></html>"]
    return "\n".join(lines) + "\n"


def _plots(summary: ReportSummary) -> list[str]:
    spans, often = summary.spans, summary.span
    if len(spans) < 2 or summary.whole.figures["given_back_at_least_gib"] is None:
        return []

    def amounts(name: str) -> list[float]:
        return [item[name] or 0.0 for item in spans]

    times, given_back = amounts("begins"), {label: amounts(f"given_back_{name}_gib") for name, label in MEANS.items()}
    held = [max(0.0, gib - merged) for gib, merged in zip(amounts("held_gib"), amounts("given_back_ksm_gib"), strict=True)]
    areas = {HELD: held, **{label: values for label, values in given_back.items() if any(values)}}
    used = f"used on the host, maximum of the {often}"
    return [
        plot(f"Memory of guests, average of each {often}, GiB", times, areas, [Curve("sold", amounts("sold_gib"))]),
        plot("Used on the host, GiB", times, {}, [
            Curve(used, [item["used_most_gib"] for item in spans]),
            Curve("the host's memory", [item["total_gib"] for item in spans], dashed=True),
        ]),
    ]  # fmt: skip


def _table(summary: ReportSummary) -> str:
    if not summary.lines:
        return ""
    columns = columns_of(summary)
    heads = "".join(f"<th>{_text(column.heading)}</th>" for column in columns)
    rows = []
    for line in summary.lines:
        cells = [f"<td{_MOODS.get(cell := column.of(line), '')}>{_text(cell)}</td>" for column in columns]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    table = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="wide">{table}</div><p class="soft">Sizes in GiB.</p>'


def _in_a_line(text: str) -> str:
    return ", ".join(part.strip() for part in text.strip().split("  ") if part.strip())


def _text(text: str) -> str:
    return escape(printable(text, 400))
