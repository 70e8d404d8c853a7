"""The figure of merit: how much host memory could be taken while guests still did their work and nothing was lost."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

WORK_FLOOR = 0.95
"""Ratio of the unsqueezed work: with less, guests are being harmed."""

WINDOW_SECONDS = 60.0
"""Work is what was done in the last minute: as long as half of the longest period of a mix."""


@dataclass(frozen=True)
class Moment:
    """What was seen once a second. `time` in seconds since the ramp began; memory in MiB. `taken` is by how much there is less for guests
    than at the beginning, whoever has it; `guests` is what they hold, less what KSM `merged`; `strangers` what neither guests nor the
    squeeze hold; `work` the ratio to the unsqueezed work over the last minute; `swap` what guests have in their own swap."""

    time: float
    taken: float
    available: float
    guests: float
    merged: float
    strangers: float
    work: float
    kills: int
    swap: float
    sizes: Mapping[str, float]
    says: str = ""

    def as_json(self) -> dict[str, Any]:
        """Rounded: a trace has a line for each second."""
        content = asdict(self)
        content["sizes"] = {name: round(size) for name, size in self.sizes.items()}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in content.items()}


def taken_at_work(trace: Sequence[Moment]) -> float:
    """MiB: the most that was taken while guests did enough of their work and nothing had been lost.

    The first seconds count, too: work is compared over a minute, which then reaches back to before the ramp.
    """
    best = 0.0
    for moment in trace:
        if moment.kills:
            break
        if moment.work >= WORK_FLOOR:
            best = max(best, moment.taken)
    return best


@dataclass(frozen=True)
class Spread:
    """Several runs of the same: how many, and least, median, and most of one figure."""

    runs: int
    least: float
    median: float
    most: float

    def __str__(self) -> str:
        if self.runs == 1:
            return f"{self.median:,.0f}"
        return f"{self.median:,.0f} ({self.least:,.0f} to {self.most:,.0f})"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(len(values), min(values), statistics.median(values), max(values))
