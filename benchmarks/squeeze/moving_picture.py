"""Animated picture for the first page: one squeeze under three managers, ten minutes in 14 seconds.

Browsers animate the SVG without a script. For users who want no motion, the picture stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from merit import Run

LANES: Final = {"nothing": "no manager", "mom-original": "oVirt MOM's laws", "mom": "mom"}
"""Managers and their titles, from the top."""

MOVING_SECONDS, STILL_SECONDS = 14.0, 8.0
STEP_SECONDS: Final = 4
"""Between two drawn points of a run."""

WIDTH, LEFT, LANE, GAP, TOP = 860, 16, 76, 30, 56
AREAS: Final = (("guests", "#0072B2", "guests hold"), ("available", "#A6D5C3", "available on the host"), ("taken", "#D55E00", "taken"))
"""From the bottom: key of a sample, colour, title."""


@dataclass(frozen=True)
class Lane:
    """One run: upper edges of its areas at each time, in pixels of the lane, and how the run ended."""

    name: str
    times: Sequence[float]
    edges: Sequence[Sequence[float]]
    words: str
    bad: bool


def lane(name: str, run: Run, moments: Sequence[Mapping[str, float]]) -> Lane:
    """Return a run as it is drawn. The host's memory fills the height of the lane.

    :param moments: samples, one a second
    """
    kept = [moment for at, moment in enumerate(moments) if at == len(moments) - 1 or at % STEP_SECONDS == 0]
    edges = []
    for moment in kept:
        parts = [max(0.0, moment[area]) for area, _, _ in AREAS]
        edges.append([LANE * sum(parts[: upto + 1]) / sum(parts) for upto in range(len(parts))])
    killed = run["kills"] > 0
    why = "a program in a guest was killed" if killed else "the host was full, nothing was killed"
    words = f"{run['taken'] / 1024:.1f} GiB taken: {why}"
    return Lane(name, [moment["time"] for moment in kept], edges, words, killed)


def area(drawn: Lane, which: int, x: Callable[[float], float], bottom: float) -> str:
    """Return the outline of an area."""
    upper = [f"{x(time):.0f},{bottom - edge[which]:.1f}" for time, edge in zip(drawn.times, drawn.edges, strict=True)]
    lower = [f"{x(time):.0f},{bottom - (edge[which - 1] if which else 0):.1f}" for time, edge in zip(drawn.times, drawn.edges, strict=True)]
    return f'<polygon points="{" ".join([*upper, *reversed(lower)])}" fill="{AREAS[which][1]}"/>'


def picture(lanes: Sequence[Lane]) -> str:
    """Return the picture, as SVG."""
    longest = max(one.times[-1] for one in lanes)
    height = TOP + len(lanes) * (LANE + GAP) + 8
    whole = MOVING_SECONDS + STILL_SECONDS
    moved = MOVING_SECONDS / whole

    def x(time: float) -> float:
        return LEFT + (WIDTH - 2 * LEFT) * time / longest

    def over_time(attribute: str, values: str, times: str) -> str:
        return f'<animate attributeName="{attribute}" values="{values}" keyTimes="{times}" dur="{whole:g}s" repeatCount="indefinite"/>'

    grown = over_time("width", f"0;{WIDTH - 2 * LEFT};{WIDTH - 2 * LEFT}", f"0;{moved:.3f};1")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" font-family="sans-serif" font-size="15">',
        "<title>Twelve guests on one host, while more and more of its memory is taken, under three managers</title>",
        "<style>.shown{clip-path:url(#shown)}@media (prefers-reduced-motion:reduce){.shown{clip-path:none}.end,.now{display:none}"
        ".still{display:inline}}@media not (prefers-reduced-motion:reduce){.still{display:none}}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#fff"/>',
        f'<clipPath id="shown"><rect x="{LEFT}" y="0" width="{WIDTH - 2 * LEFT}" height="{height}">{grown}</rect></clipPath>',
    ]
    across = LEFT
    for _, colour, words in AREAS:
        lines.append(f'<rect x="{across}" y="14" width="14" height="14" fill="{colour}"/><text x="{across + 20}" y="26">{words}</text>')
        across += 40 + 8 * len(words)
    minutes = f"{longest / 60:.0f} minutes of real guests in {MOVING_SECONDS:.0f} seconds"
    lines.append(f'<text x="{WIDTH - LEFT}" y="26" text-anchor="end" fill="#555">{minutes}</text>')
    for at, one in enumerate(lanes):
        top = TOP + at * (LANE + GAP)
        bottom = top + LANE
        lines.append(f'<text x="{LEFT}" y="{top - 7}" font-weight="bold">{one.name}</text>')
        lines.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH - 2 * LEFT}" height="{LANE}" fill="#f3f3f3"/>')
        lines.append('<g class="shown">' + "".join(area(one, which, x, bottom) for which in range(len(AREAS))) + "</g>")
        ends = moved * one.times[-1] / longest
        shown = over_time("opacity", "0;0;1;1", f"0;{ends:.3f};{min(ends + 0.01, 0.999):.3f};1")
        words = f'<text x="{WIDTH - LEFT}" y="{top - 7}" text-anchor="end" fill="{"#b00000" if one.bad else "#111"}">{one.words}'
        lines.append(f'<g class="end" opacity="1">{shown}{words}</text></g><g class="still">{words}</text></g>')
    now = over_time("x", f"{LEFT};{WIDTH - LEFT - 2};{WIDTH - LEFT - 2}", f"0;{moved:.3f};1")
    lines.append(
        f'<rect class="now" x="{LEFT}" y="{TOP}" width="2" height="{height - TOP - GAP - 8}" fill="#333" opacity=".5">{now}</rect>'
    )
    return "\n".join([*lines, "</svg>", ""])
