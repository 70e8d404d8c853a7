"""Plots of a report, as SVG within its page: lines and letters are of a grey that is read on light and on dark."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from mom_plugins_record.plot.picture import date_axis, days, drawing

HELD: Final = "held by guests"

_AREAS: Final = ("#8b98a8", "#2f6fde", "#18a0a0", "#8a5cd6", "#d9822b")
_LINES: Final = ("#7b8794", "#c8323c")
_INK: Final = "#808890"


class Curve(NamedTuple):
    """A line over the areas; None: unknown, where it breaks off."""

    label: str
    values: Sequence[float | None]
    dashed: bool = False


def plot(title: str, times: Sequence[float], areas: Mapping[str, Sequence[float]], lines: Sequence[Curve]) -> str:
    """Areas on each other, and lines above them.

    :param times: seconds since the epoch
    Raises `MomError` when matplotlib is missing.
    """
    out = io.StringIO()
    with drawing(_INK) as figure_class:
        figure = figure_class(figsize=(8.2, 2.9), layout="constrained")
        axes = figure.add_subplot()
        if areas:
            axes.stackplot(days(times), *areas.values(), labels=list(areas), colors=_AREAS, linewidth=0)
        for line, colour in zip(lines, _LINES, strict=False):
            values = [math.nan if value is None else value for value in line.values]
            axes.plot(days(times), values, label=line.label, color=colour, linewidth=1.6, linestyle="--" if line.dashed else "-")
        axes.set_xlim(days(times)[0], days(times)[-1])
        axes.set_ylim(bottom=0)
        date_axis(axes, show_offset=True)
        axes.set_title(title, loc="left", fontsize=10)
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, -0.34), frameon=False, fontsize=8, ncols=6)
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = out.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"
