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
from mom_plugins_record.plot.series import GuestSeries, HostSeries, Story

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GIB: Final = 1 << 20
"""KiB."""

# Colours that people with any kind of colour vision can tell apart (Okabe and Ito, 2008), light ones for areas.
GUESTS, ITSELF, FREE, RECLAIMED, SHARED = "#0072B2", "#7f7f7f", "#e8e8e8", "#E69F00", "#009E73"
SIZE, NEED, GROWN, SHRUNK, PRESSURE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#D55E00"

SECONDS_A_DAY: Final = 86_400

SPARE: Final = 0.3
"""Ratio of what a guest was sold: with so much more than it needs it has plenty."""

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
        raise MomError("pictures need matplotlib", hint="install matplotlib for the Python of mom (Debian: python3-matplotlib)") from error
    with rc_context(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "svg.fonttype": "none",
            "svg.hashsalt": "mom",
            "text.parse_math": False,  # what guests are called is text, and no formula
            "text.usetex": False,
        }
    ):
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
    field = [min(5.0, 1.5 + 0.01 * len(story.spare))] if story.spare else []
    heights = [3.4, 1.1, *field, 0.2, *([1.6 if columns <= 3 else 1.15] * rows), 0.1 + 0.14 * len(notes)]
    figure = figure_class(figsize=(WIDTH, sum(heights) + 0.22 * len(heights) + 0.8), layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    host = figure.add_subplot(grid[0, :])
    _draw_host(host, story)
    _draw_pressure(figure.add_subplot(grid[1, :], sharex=host), story.host)
    if story.spare:
        _draw_spare(figure, figure.add_subplot(grid[2, :], sharex=host), story)
    legend = figure.add_subplot(grid[2 + len(field), :])
    legend.axis("off")
    first = 3 + len(field)
    for number, guest in enumerate(story.guests):
        axes = figure.add_subplot(grid[first + number // columns, number % columns], sharex=host)
        _draw_guest(axes, guest, small=columns > 3)
        if number == 0:
            handles = axes.get_legend_handles_labels()
            legend.legend(
                *handles, title="guests, GiB", loc="center left", frameon=False, fontsize=8, ncols=6, title_fontsize=8, alignment="left"
            )
    if notes:
        axes = figure.add_subplot(grid[-1, :])
        axes.axis("off")
        axes.text(0, 1, "\n".join(notes), va="top", ha="left", fontsize=8, transform=axes.transAxes)
    return figure


def _days(times: Sequence[float]) -> list[float]:
    """As matplotlib counts time."""
    return [time / SECONDS_A_DAY for time in times]


def _gib(values: Sequence[float]) -> list[float]:
    return [value / GIB for value in values]


def _draw_host(axes: Axes, story: Story) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    host = story.host
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
    top = axes.get_ylim()[1]
    axes.set_ylim(0, 1.08 * top)
    for number, moment in enumerate(story.noted, 1):
        axes.annotate(str(number), (moment.time / SECONDS_A_DAY, 1.07 * top), fontsize=8, ha="center", va="top", fontweight="bold")
        axes.axvline(moment.time / SECONDS_A_DAY, color="black", linewidth=0.4, alpha=0.5)
    axes.xaxis_date()
    locator = AutoDateLocator(minticks=4, maxticks=10)  # type: ignore[no-untyped-call]  # no types here; from 5 on, 4 h 40 min have no ticks
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]  # as above
    axes.set_ylabel("host memory, GiB")
    axes.set_xlim(times[0], max(times[-1], times[0] + 1 / SECONDS_A_DAY))
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, fontsize=8, ncols=8, columnspacing=1.2)
    axes.tick_params(labelbottom=False)


def _draw_spare(figure: Figure, axes: Axes, story: Story) -> None:
    """All guests at once, as a field of colours."""
    begins, ends = story.host.times[0], story.host.times[-1]
    extent = (begins / SECONDS_A_DAY, max(ends, begins + 1) / SECONDS_A_DAY, float(len(story.spare)), 0.0)
    image = axes.imshow(
        story.spare,
        aspect="auto",
        extent=extent,
        cmap="RdYlBu",
        vmin=-SPARE,
        vmax=SPARE,
        interpolation="nearest",
        interpolation_stage="data",
    )
    axes.set_ylabel(f"all {len(story.spare)} guests,\nworst first")
    bar = figure.colorbar(image, ax=axes, location="top", anchor=(0.0, 0.0), shrink=0.25, fraction=0.03, aspect=40, pad=0.01)
    bar.set_ticks([-SPARE, 0, SPARE], labels=["short", "just enough", "plenty"])
    bar.ax.tick_params(labelsize=7)


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


def _draw_guest(axes: Axes, guest: GuestSeries, *, small: bool) -> None:
    times = _days(guest.times)
    axes.fill_between(times, _gib(guest.need), color=NEED, alpha=0.35, linewidth=0, label="needs")
    axes.plot(times, _gib(guest.most), color="black", linewidth=0.7, linestyle="--", label="sold")
    axes.plot(times, _gib(guest.guaranteed), color="black", linewidth=0.7, linestyle=":", label="guaranteed")
    axes.plot(times, _gib(guest.size), color=SIZE, linewidth=1.2, label="has")
    for up, colour, shape, label in ((True, GROWN, "^", "mom gives"), (False, SHRUNK, "v", "mom takes")):
        marks = [mark for mark in guest.marks if (mark.after > mark.before) is up and mark.after != mark.before]
        places = _days([m.time for m in marks]), _gib([m.after for m in marks])
        axes.scatter(*places, s=9 if small else 14, marker=shape, color=colour, zorder=3, label=label)
    axes.set_ylim(bottom=0)
    axes.set_title(printable(guest.name, 28), fontsize=8, loc="left", pad=2)
    axes.tick_params(labelsize=6 if small else 7)
    for tick in axes.get_xticklabels():
        tick.set_visible(not small)


def _notes(story: Story) -> list[str]:
    lines = []
    for number, moment in enumerate(story.noted, 1):
        largest = moment.largest
        if largest is None:
            continue
        clock = datetime.fromtimestamp(moment.time, UTC).strftime("%H:%M:%S")
        done = [f"{len(who)} {verb} {format_kib(kib)}" for who, verb, kib in
                ((moment.gave, "give", moment.given), (moment.got, "get", moment.gotten)) if who]  # fmt: skip
        sizes = f"{format_kib(largest.before)} → {format_kib(largest.after)}"
        text = f"{number}  {clock}  guests: {' and '.join(done)}; {printable(largest.guest)}: {sizes}, {printable(largest.reason, 200)}"
        lines.append(textwrap.shorten(text, 190, placeholder=" …"))
    if story.left_out:
        lines.append(f"{story.left_out} more guests, which fared no worse, are not shown")
    if story.set_back:
        times = "once" if story.set_back == 1 else f"{story.set_back} times"
        lines.append(f"the clock was set back {times}: what came then is drawn as if it had gone on")
    if story.damage:
        lines.append(printable(story.damage, 160))
    return lines
