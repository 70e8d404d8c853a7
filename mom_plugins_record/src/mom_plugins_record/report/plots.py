"""Plots of a report as SVG: small, without a program that draws, and in the colours of the page, which are others where it is dark."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 240
LEFT: Final = 52
RIGHT: Final = 8
TOP: Final = 8
BOTTOM: Final = 24

DAY: Final = 86_400
HOUR: Final = 3_600

MARKS: Final = 4
"""Lines across, about."""


@dataclass(frozen=True, slots=True)
class Band:
    """One part of a stack, or a line: its name, the class that colours it, and a value for each day or hour (None: unknown, a gap)."""

    name: str
    colour: str
    values: Sequence[float | None]


def stacked(title: str, spans: Sequence[int], each: int, bands: Sequence[Band], lines: Sequence[Band], unit: str) -> str:
    """Areas on each other, and lines above them; empty with fewer than two days or hours.

    :param spans: days or hours since the epoch
    :param each: seconds of one
    """
    if len(spans) < 2:
        return ""
    tops: list[list[float]] = []
    heights = [0.0] * len(spans)
    for band in bands:
        heights = [height + max(0.0, value or 0.0) for height, value in zip(heights, band.values, strict=True)]
        tops.append(heights)
    most = max([*heights, *(value for line in lines for value in line.values if value is not None), 1e-9])
    step = _step(most)
    highest = math.ceil(most / step - 1e-9) * step
    first, last = spans[0], spans[-1]

    def x(span: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (span - first) / (last - first)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / highest

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">']
    for mark in range(round(highest / step) + 1):
        at = y(mark * step)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        label = f"{mark * step:g}{' ' + unit if mark * step == highest else ''}"
        parts.append(f'<text class="mark" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    below = [0.0] * len(spans)
    for band, top in zip(bands, tops, strict=True):
        there = [f"{x(span):.1f},{y(value):.1f}" for span, value in zip(spans, top, strict=True)]
        back = [f"{x(span):.1f},{y(value):.1f}" for span, value in zip(reversed(spans), reversed(below), strict=True)]
        parts.append(f'<polygon class="{band.colour}" points="{" ".join(there + back)}"/>')
        below = top
    parts.extend(f'<path class="line {line.colour}" d="{_path(spans, line.values, x, y)}"/>' for line in lines)
    for span in _labelled(spans):
        anchor = "start" if span == first else "end" if span == last else "middle"
        label = time.strftime("%m-%d" if each >= DAY else "%m-%d %H:%M", time.gmtime(span * each))
        parts.append(f'<text class="mark" x="{x(span):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{label}</text>')
    parts.append("</svg>")
    keys = "".join(f'<span><i class="{one.colour}"></i>{one.name}</span>' for one in (*lines, *reversed(bands)))
    return f'<figure><figcaption>{title}</figcaption>{"".join(parts)}<p class="keys">{keys}</p></figure>'


def _path(spans: Sequence[int], values: Sequence[float | None], x: Callable[[int], float], y: Callable[[float], float]) -> str:
    steps = []
    drawn = False
    for span, value in zip(spans, values, strict=True):
        if value is not None:
            steps.append(f"{'L' if drawn else 'M'}{x(span):.1f} {y(value):.1f}")
        drawn = value is not None
    return " ".join(steps)


def _labelled(spans: Sequence[int]) -> list[int]:
    """Up to six of them, the first and the last among them."""
    each = max(1, math.ceil((len(spans) - 1) / 5))
    chosen = list(spans[::each])
    if chosen[-1] != spans[-1]:
        if spans[-1] - chosen[-1] < each * 0.6:
            chosen.pop()
        chosen.append(spans[-1])
    return chosen


def _step(most: float) -> float:
    """The distance of two lines across: 1, 2 or 5 times a power of ten."""
    rough = most / MARKS
    power = float(10.0 ** math.floor(math.log10(rough)))
    return next(power * one for one in (1, 2, 5, 10) if power * one >= rough * (1 - 1e-9))
