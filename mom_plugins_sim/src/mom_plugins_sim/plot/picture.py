"""Draws a story: the host's memory stacked, its pressure, the guests as small multiples, and the largest decisions with their reasons."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Final

from mom_core import MomError, format_kib, printable
from mom_plugins_sim.plot.series import GuestSeries, HostSeries, Story

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GIB: Final = 1 << 20
"""KiB."""

# Colours that people with any kind of colour vision can tell apart (Okabe and Ito, 2008), light ones for areas.
GUESTS, ITSELF, FREE, RECLAIMED, SHARED = "#0072B2", "#7f7f7f", "#e8e8e8", "#E69F00", "#009E73"
SIZE, NEED, GROWN, SHRUNK, PRESSURE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#D55E00"

WIDTH: Final = 13.0
"""Inches."""

DOTS_PER_INCH: Final = 110

FORMATS: Final = ("png", "svg", "html")


def draw(story: Story, title: str, kind: str) -> bytes:
    """The picture as a file of that kind, one of `FORMATS`. Raises `MomError` when matplotlib is missing."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MomError("pictures need matplotlib", hint="pip install 'mom-plugins-sim[plot]'") from error
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none", "svg.hashsalt": "mom"}):
        figure = _figure(Figure, story, title)
        out = io.BytesIO()
        figure.savefig(out, format="png" if kind == "png" else "svg", dpi=DOTS_PER_INCH, metadata={} if kind == "png" else {"Date": None})
    return _page(out.getvalue(), title) if kind == "html" else out.getvalue()


def _page(svg: bytes, title: str) -> bytes:
    picture = svg[svg.index(b"<svg") :].decode()
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        "<style>body{margin:1em;font-family:sans-serif}svg{max-width:100%;height:auto}</style></head>"
        f"<body>{picture}</body></html>\n"
    ).encode()


def _figure(figure_class: type[Figure], story: Story, title: str) -> Figure:
    columns = max(1, min(3 if len(story.guests) <= 12 else 6, len(story.guests)))
    rows = math.ceil(len(story.guests) / columns)
    notes = _notes(story)
    row_height = 1.6 if columns <= 3 else 1.15
    notes_height = 0.1 + 0.13 * len(notes)
    heights = [3.4, 1.1, *([row_height] * rows), notes_height]
    figure = figure_class(figsize=(WIDTH, sum(heights) + 0.22 * len(heights) + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    host = figure.add_subplot(grid[0, :])
    _draw_host(host, story.host)
    _draw_pressure(figure.add_subplot(grid[1, :], sharex=host), story.host)
    for number, guest in enumerate(story.guests):
        axes = figure.add_subplot(grid[2 + number // columns, number % columns], sharex=host)
        _draw_guest(axes, guest, story, small=columns > 3, legend=number == 0)
    if notes:
        axes = figure.add_subplot(grid[-1, :])
        axes.axis("off")
        axes.text(0, 1, "\n".join(notes), va="top", ha="left", fontsize=7.5, transform=axes.transAxes)
    return figure


def _days(times: Sequence[float]) -> list[float]:
    """As matplotlib counts time."""
    return [time / 86_400 for time in times]


def _gib(values: Sequence[float]) -> list[float]:
    return [value / GIB for value in values]


def _draw_host(axes: Axes, host: HostSeries) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    times = _days(host.times)
    stack = [
        _gib([0.0 if math.isnan(v) else v for v in line]) for line in (host.itself, host.guests, host.free, host.reclaimed, host.shared)
    ]
    labels = ("the host itself", "guests", "available", "taken back by balloons", "saved by KSM")
    axes.stackplot(times, *stack, labels=labels, colors=(ITSELF, GUESTS, FREE, RECLAIMED, SHARED), linewidth=0)
    axes.plot(times, _gib(host.total), color="black", linewidth=1.5, label="all that the host has")
    if any(host.sold):
        axes.plot(times, _gib(host.sold), color="black", linewidth=1, linestyle="--", label="sold to guests")
    if any(value > 0 for value in host.swapped):
        axes.plot(times, _gib(host.swapped), color=PRESSURE, linewidth=1.2, label="in the host's swap")
    axes.xaxis_date()
    locator = AutoDateLocator(maxticks=10)  # type: ignore[no-untyped-call]  # matplotlib gives no types here
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # as above
    axes.set_ylabel("host memory, GiB")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    axes.tick_params(labelbottom=False)


def _draw_pressure(axes: Axes, host: HostSeries) -> None:
    times = _days(host.times)
    axes.fill_between(times, [0.0 if math.isnan(v) else v for v in host.pressure], color=PRESSURE, linewidth=0, alpha=0.8)
    axes.set_ylabel("waiting for\nmemory, %")
    axes.set_ylim(0, max(5.0, *(v for v in host.pressure if not math.isnan(v)), 0.0) * 1.05)
    other = axes.twinx()
    other.plot(times, host.changes, color=GUESTS, linewidth=0.8, alpha=0.8)
    other.set_ylabel("changes\nper cycle", color=GUESTS)
    other.set_ylim(0, max(5.0, *host.changes) * 1.05)
    other.spines["right"].set_visible(True)


def _draw_guest(axes: Axes, guest: GuestSeries, story: Story, *, small: bool, legend: bool) -> None:
    times = _days(guest.times)
    axes.fill_between(times, _gib(guest.need), color=NEED, alpha=0.35, linewidth=0, label="needs")
    axes.plot(times, _gib(guest.most), color="black", linewidth=0.7, linestyle="--", label="sold")
    axes.plot(times, _gib(guest.promised), color="black", linewidth=0.7, linestyle=":", label="promised")
    axes.plot(times, _gib(guest.size), color=SIZE, linewidth=1.2, label="has")
    for up, colour, shape in ((True, GROWN, "^"), (False, SHRUNK, "v")):
        marks = [mark for mark in guest.marks if (mark.after > mark.before) is up and mark.after != mark.before]
        axes.scatter(
            _days([m.time for m in marks]), _gib([m.after for m in marks]), s=9 if small else 14, marker=shape, color=colour, zorder=3
        )
    for number, mark in enumerate(story.noted, 1):
        if mark in guest.marks:
            axes.annotate(
                str(number),
                (mark.time / 86_400, mark.after / GIB),
                fontsize=7,
                xytext=(2, 3),
                textcoords="offset points",
            )
    axes.set_ylim(bottom=0)
    axes.set_title(printable(guest.name, 28), fontsize=8, loc="left", pad=2)
    axes.tick_params(labelsize=6 if small else 7, labelrotation=0)
    for label in axes.get_xticklabels():
        label.set_visible(not small)
    if legend:
        axes.legend(loc="lower left", frameon=False, fontsize=6, ncols=2)


def _notes(story: Story) -> list[str]:
    lines = []
    for number, mark in enumerate(story.noted, 1):
        moment = datetime.fromtimestamp(mark.time, UTC).strftime("%H:%M:%S")
        sizes = f"{format_kib(mark.before)} → {format_kib(mark.after)}"
        text = f"{number}  {moment}  {printable(mark.guest)}: {sizes}  {printable(mark.reason, 200)}"
        lines.append(textwrap.shorten(text, 190, placeholder=" …"))
    if story.left_out:
        lines.append(f"{story.left_out} more guests, which fared no worse, are not shown")
    if story.lost:
        lines.append(f"{story.lost} cycles are lost: the recording is damaged")
    return lines
