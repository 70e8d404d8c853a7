"""Plots of a report, as SVG within its page: lines and letters are of a grey that is read on light and on dark."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from mom_core import MomError

HELD: Final = "held by guests"

_AREAS: Final = ("#8b98a8", "#2f6fde", "#18a0a0", "#8a5cd6", "#d9822b")
_LINES: Final = ("#7b8794", "#c8323c")
_INK: Final = "#808890"

_SECONDS_A_DAY: Final = 86_400


class Curve(NamedTuple):
    """Line over the areas; None: unknown, where it breaks off."""

    label: str
    values: Sequence[float | None]
    dashed: bool = False


def plot(title: str, times: Sequence[float], areas: Mapping[str, Sequence[float]], lines: Sequence[Curve]) -> str:
    """Areas on each other, and lines above them.

    :param times: seconds since the epoch
    Raises `MomError` when matplotlib is missing.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # user mom has no home for its cache, of which it warns
    try:
        from matplotlib import rc_context
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MomError("pictures need matplotlib", hint="install matplotlib for the Python of mom (Debian: python3-matplotlib)") from error
    out, days = io.StringIO(), [time / _SECONDS_A_DAY for time in times]  # as matplotlib counts time
    with rc_context(
        {
            "font.size": 9,
            "svg.fonttype": "none",
            "svg.hashsalt": "mom",
            # What guests are called is text, and no formula.
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
        locator = AutoDateLocator(minticks=4, maxticks=10)  # type: ignore[no-untyped-call]  # no types here; from 5 on, 4 h 40 min have no ticks
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # as above
        axes.set_title(title, loc="left", fontsize=10)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, -0.34), frameon=False, fontsize=8, ncols=6)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = out.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"
