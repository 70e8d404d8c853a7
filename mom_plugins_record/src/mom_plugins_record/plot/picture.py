"""Draws a recording: the host's memory stacked, its pressure, and the guests one by one."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mom_core import MomError, printable
from mom_plugins_record.plot.series import GuestSeries, Lines, PlotSeries

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GIB: Final = 1 << 20
"""KiB."""

# Colours that people with any kind of colour vision can tell apart (Okabe and Ito, 2008), light ones for areas.
GUESTS, ITSELF, FREE, RECLAIMED, SHARED = "#0072B2", "#7f7f7f", "#e8e8e8", "#E69F00", "#009E73"
SIZE, NEED, GROWN, SHRUNK, PRESSURE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#D55E00"

SECONDS_A_DAY: Final = 86_400

WIDTH: Final = 13.0
"""Inches."""

DOTS_PER_INCH: Final = 110

FORMATS: Final = ("png", "svg")


@contextmanager
def drawing(ink: str = "black") -> Iterator[type[Figure]]:
    """The class that draws, with the colour of letters and axes. Raises `MomError` when matplotlib is missing."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MomError("pictures need matplotlib", hint="install matplotlib for the Python of mom (Debian: python3-matplotlib)") from error
    with rc_context(
        {
            "font.size": 9,
            "svg.fonttype": "none",
            "svg.hashsalt": "mom",
            # What guests are called is text, and no formula.
            **dict.fromkeys(("text.parse_math", "text.usetex", "axes.spines.top", "axes.spines.right"), False),
            **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink),
        }
    ):
        yield Figure


def draw(series: PlotSeries, title: str, kind: str) -> bytes:
    """The picture as a file of that kind, one of `FORMATS`. Raises `MomError` when matplotlib is missing."""
    out = io.BytesIO()
    with drawing() as figure_class:
        figure = _figure(figure_class, series, title)
        figure.savefig(out, format=kind, dpi=DOTS_PER_INCH, metadata={} if kind == "png" else {"Date": None})
    return out.getvalue()


def _figure(figure_class: type[Figure], series: PlotSeries, title: str) -> Figure:
    columns = max(1, min(3 if len(series.guests) <= 12 else 6, len(series.guests)))
    rows = math.ceil(len(series.guests) / columns)
    left = f"{series.left_out} more guests, which fared no worse, are not shown" if series.left_out else ""
    notes = [note for note in (left, printable(series.damage, 160)) if note]
    heights = [3.4, 1.1, 0.2, *([1.6 if columns <= 3 else 1.15] * rows), 0.1 + 0.14 * len(notes)]
    figure = figure_class(figsize=(WIDTH, sum(heights) + 0.22 * len(heights) + 0.8), layout="constrained")
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    host = figure.add_subplot(grid[0, :])
    _draw_host(host, series)
    _draw_pressure(figure.add_subplot(grid[1, :], sharex=host), series.host)
    legend = figure.add_subplot(grid[2, :])
    legend.axis("off")
    for number, guest in enumerate(series.guests):
        axes = figure.add_subplot(grid[3 + number // columns, number % columns], sharex=host)
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


def days(times: Sequence[float]) -> list[float]:
    """As matplotlib counts time."""
    return [time / SECONDS_A_DAY for time in times]


def _gib(values: Sequence[float]) -> list[float]:
    return [value / GIB for value in values]


def date_axis(axes: Axes, *, show_offset: bool) -> None:
    """Have the x axis show times."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    axes.xaxis_date()
    locator = AutoDateLocator(minticks=4, maxticks=10)  # type: ignore[no-untyped-call]  # no types here; from 5 on, 4 h 40 min have no ticks
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=show_offset))  # type: ignore[no-untyped-call]  # as above


def _draw_host(axes: Axes, series: PlotSeries) -> None:
    host = series.host
    times = days(host["time"])
    stack = [_gib([0.0 if math.isnan(v) else v for v in host[name]]) for name in ("itself", "guests", "free", "reclaimed", "shared")]
    labels = ("the host itself", "guests", "available", "taken back by balloons", "saved by KSM")
    axes.stackplot(times, *stack, labels=labels, colors=(ITSELF, GUESTS, FREE, RECLAIMED, SHARED), linewidth=0)
    axes.plot(times, _gib(host["total"]), color="black", linewidth=1.5, label="all that the host has")
    if any(host["sold"]):
        axes.plot(times, _gib(host["sold"]), color="black", linewidth=1, linestyle="--", label="sold to guests")
    if any(value > 0 for value in host["swapped"]):
        axes.plot(times, _gib(host["swapped"]), color=PRESSURE, linewidth=1.2, label="in the host's swap")
    axes.set_ylim(bottom=0)
    date_axis(axes, show_offset=False)
    axes.set_ylabel("host memory, GiB")
    axes.set_xlim(times[0], max(times[-1], times[0] + 1 / SECONDS_A_DAY))
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, fontsize=8, ncols=8, columnspacing=1.2)
    axes.tick_params(labelbottom=False)


def _draw_pressure(axes: Axes, host: Lines) -> None:
    times = days(host["time"])
    axes.fill_between(times, [0.0 if math.isnan(v) else v for v in host["pressure"]], color=PRESSURE, linewidth=0, alpha=0.8)
    axes.set_ylabel("waiting for\nmemory, %")
    axes.set_ylim(0, max(5.0, *(v for v in host["pressure"] if not math.isnan(v)), 0.0) * 1.05)
    other = axes.twinx()
    other.plot(times, host["changes"], color=GUESTS, linewidth=0.8, alpha=0.8)
    other.set_ylabel("changes\nper cycle", color=GUESTS)
    other.set_ylim(0, max(5.0, *host["changes"]) * 1.05)
    other.spines["right"].set_visible(True)


def _draw_guest(axes: Axes, guest: GuestSeries, *, small: bool) -> None:
    lines, times = guest.lines, days(guest.lines["time"])
    axes.fill_between(times, _gib(lines["need"]), color=NEED, alpha=0.35, linewidth=0, label="needs")
    axes.plot(times, _gib(lines["most"]), color="black", linewidth=0.7, linestyle="--", label="sold")
    axes.plot(times, _gib(lines["guaranteed"]), color="black", linewidth=0.7, linestyle=":", label="guaranteed")
    axes.plot(times, _gib(lines["size"]), color=SIZE, linewidth=1.2, label="has")
    for up, colour, shape, label in ((True, GROWN, "^", "mom gives"), (False, SHRUNK, "v", "mom takes")):
        marks = [mark for mark in guest.marks if mark.change and (mark.change > 0) is up]
        places = days([m.time for m in marks]), _gib([m.after for m in marks])
        axes.scatter(*places, s=9 if small else 14, marker=shape, color=colour, zorder=3, label=label)
    axes.set_ylim(bottom=0)
    axes.set_title(printable(guest.name, 28), fontsize=8, loc="left", pad=2)
    axes.tick_params(labelsize=6 if small else 7)
    for tick in axes.get_xticklabels():
        tick.set_visible(not small)
