"""The figure of merit: how much host memory could be taken while guests still did their work and nothing was lost."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

WORK_FLOOR = 0.95
"""Ratio of the unsqueezed work: with less, guests are being harmed."""

UNFELT_P99, LATE_BURST_SECONDS = 2.0, 2.5
"""Guests do not feel what is taken while the slowest of 100 slots takes no more than twice what it took unsqueezed, and each burst has
grown after so many seconds. What grows later was sold, and was not there when it was wanted: a promise was broken."""

WINDOW_SECONDS = 60.0
"""Work is what was done in the last minute: as long as half of the longest period of a mix."""


@dataclass(frozen=True)
class Inside:
    """One guest and its process, in MiB: what its `program` says that it holds, and how much `swap` the guest uses; the balloon's `size`
    and what the guest's kernel says is `available` in all, `unused` and `usable`; how much of the guest's memory the host has `backed`,
    and what the process holds `beside` it."""

    program: float
    swap: float
    size: float
    available: float
    unused: float
    usable: float
    backed: float
    beside: float

    @property
    def resident(self) -> float:
        """MiB of the program that are not in swap."""
        return self.program - self.swap


@dataclass(frozen=True)
class Moment:
    """What was seen once a second. `time` in seconds since the ramp began; memory in MiB. `taken` is by how much there is less for guests
    than at the beginning, whoever has it; `guests` is what they hold, less what KSM `merged`; `strangers` what neither guests nor the
    squeeze hold; `work` the ratio to the unsqueezed work over the last minute; `swap` what guests have in their own swap; `programs` what
    programs in all guests say that they hold; `host_swap` what is in the host's, before it was compressed; `inside` what guests were then
    looked into, which is not every second; `p99_ms` of a slot and the slowest `burst` (s) are of the last minute, too: unknown in older
    traces, and where no burst grew; `latencies` are the median and p99 (ms) of real programs over the last two minutes."""

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
    programs: float = 0.0
    inside: Mapping[str, Inside] = field(default_factory=dict)
    host_swap: float = 0.0
    p99_ms: float | None = None
    burst: float | None = None
    latencies: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Rounded: a trace has a line for each second."""
        content = asdict(self)
        content["sizes"] = {name: round(size) for name, size in self.sizes.items()}
        if not self.inside:
            del content["inside"]
        if not self.latencies:
            del content["latencies"]
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in content.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Moment:
        """What a trace has kept; older ones know less."""
        inside = {name: Inside(**one) for name, one in content.get("inside", {}).items()}
        return cls(**{**content, "inside": inside})


def most_at_work(trace: Sequence[Moment]) -> Moment | None:
    """When the most was taken while guests did enough of their work and nothing had been lost.

    The first seconds count, too: work is compared over a minute, which then reaches back to before the ramp.
    """
    alive = itertools.takewhile(lambda moment: not moment.kills, trace)
    return max((moment for moment in alive if moment.work >= WORK_FLOOR), key=lambda moment: moment.taken, default=None)


def taken_at_work(trace: Sequence[Moment]) -> float:
    """MiB that were taken then."""
    best = most_at_work(trace)
    return 0.0 if best is None else max(0.0, best.taken)


def taken_unfelt(trace: Sequence[Moment], p99_ms: float) -> float:
    """The same while guests' slots and bursts were hardly slower either.

    :param p99_ms: of a slot, unsqueezed
    """
    return taken_at_work([moment for moment in trace if _unfelt(moment, p99_ms)])


def _unfelt(moment: Moment, p99_ms: float) -> bool:
    slots = moment.p99_ms is not None and moment.p99_ms <= UNFELT_P99 * p99_ms
    # A moment with a guest killed stays in the trace: nothing that is taken after it counts.
    return bool(moment.kills) or (slots and (moment.burst or 0.0) <= LATE_BURST_SECONDS)


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
