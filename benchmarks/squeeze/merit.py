"""Samples of a run, and the memory that could be taken while guests still did their work."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Run = Mapping[str, Any]
"""Result of one run, as JSON."""

WORK_FLOOR = 0.95
"""Ratio of the unsqueezed work. Below it, guests are harmed."""

UNFELT_P99, LATE_BURST_SECONDS = 2.0, 2.5
"""Guests do not feel the squeeze while 99 of 100 slots take at most this multiple of their unsqueezed time, and each burst has grown within
this many seconds."""

WINDOW_SECONDS = 60.0
"""Work is counted over the last minute: half of the longest period of a mix."""


@dataclass(frozen=True)
class Inside:
    """One guest and its QEMU, in MiB.

    `program` is what the guest's program holds, `swap` the guest's used swap, `size` that of the balloon. `available` (total), `unused` and
    `usable` come from the guest's kernel. `backed` is the guest's memory that the host has backed, `beside` QEMU's other memory.
    """

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
        """Return the program's memory that is not in swap."""
        return self.program - self.swap


@dataclass(frozen=True)
class Moment:
    """Sample of one second; memory in MiB.

    :param time: seconds since the ramp began
    :param taken: how much less memory there is for guests than at the beginning, whoever holds it
    :param guests: memory that guests hold, less what KSM `merged`
    :param strangers: memory that neither guests nor the squeeze hold
    :param work: ratio to the unsqueezed work over the last minute
    :param swap: used swap inside guests
    :param programs: memory that programs in all guests report to hold
    :param inside: some guests in detail; not in every sample
    :param host_swap: used swap of the host, before compression
    :param p99_ms: of a slot in the last minute; unknown in older traces
    :param burst: slowest burst in the last minute (s), if any grew
    :param latencies: median and p99 (ms) of real programs over the last two minutes
    """

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
        """Return the sample for a trace, rounded."""
        content = asdict(self)
        content["sizes"] = {name: round(size) for name, size in self.sizes.items()}
        if not self.inside:
            del content["inside"]
        if not self.latencies:
            del content["latencies"]
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in content.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Moment:
        """Read a sample of a trace. Older traces have fewer keys."""
        inside = {name: Inside(**one) for name, one in content.get("inside", {}).items()}
        return cls(**{**content, "inside": inside})


def most_at_work(trace: Sequence[Moment]) -> Moment | None:
    """Return the sample with the most memory taken while guests did enough of their work and nothing was killed.

    In the first minute, work includes time before the ramp.
    """
    alive = itertools.takewhile(lambda moment: not moment.kills, trace)
    return max((moment for moment in alive if moment.work >= WORK_FLOOR), key=lambda moment: moment.taken, default=None)


def taken_at_work(trace: Sequence[Moment]) -> float:
    """Return the memory taken in that sample, in MiB."""
    best = most_at_work(trace)
    return 0.0 if best is None else max(0.0, best.taken)


def taken_unfelt(trace: Sequence[Moment], p99_ms: float) -> float:
    """Return the most memory taken while slots and bursts were hardly slower, too.

    :param p99_ms: of a slot, unsqueezed
    """
    return taken_at_work([moment for moment in trace if _unfelt(moment, p99_ms)])


def _unfelt(moment: Moment, p99_ms: float) -> bool:
    slots = moment.p99_ms is not None and moment.p99_ms <= UNFELT_P99 * p99_ms
    # A sample with a kill stays in the trace, because nothing taken after it counts.
    return bool(moment.kills) or (slots and (moment.burst or 0.0) <= LATE_BURST_SECONDS)


@dataclass(frozen=True)
class Spread:
    """Least, median and largest value of one figure in several runs."""

    least: float
    median: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value."""
    return Spread(min(values), statistics.median(values), max(values))
