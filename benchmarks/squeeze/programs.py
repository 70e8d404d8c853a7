"""Latencies of the programs in the guests of the mix `programs`, unsqueezed and squeezed, and their table."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guests_told import Listener
from managers import MANAGERS
from merit import Moment, Run, taken_at_work
from squeeze_report import by_switches, ends, figure, of, traced
from tables import table

MIX = "programs"
SERVERS = ("pgbench", "redis")
"""Programs whose latencies bound how much counts as taken."""
TITLES = {"pgbench": "pgbench", "redis": "Redis", "sort": "sort", "xz": "compression"}

MEDIAN_FACTOR, P99_FACTOR = 1.2, 2.0
"""Most that the median and the p99 of these may grow over those unsqueezed."""
WINDOW_SECONDS = 240.0
"""Two periods of the bursts. The p99 of one period varies by a factor of two without a manager."""

Latencies = Mapping[str, Sequence[float]]
"""Median and p99 (ms) of each program."""


def latencies(listeners: Iterable[Listener], begin: float, end: float) -> Latencies:
    """Return median and p99 of each program, in all guests, between two moments of the monotonic clock."""
    measured: dict[str, list[float]] = {}
    for listener in listeners:
        for program, ms in listener.measured(begin, end):
            measured.setdefault(program, []).append(ms)
    return {program: [round(quantile(values, ratio), 1) for ratio in (0.5, 0.99)] for program, values in sorted(measured.items())}


def quantile(values: Sequence[float], ratio: float) -> float:
    """Return the value that this ratio of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(ratio * len(values)))]


def within_bound(now: Latencies, unsqueezed: Latencies) -> bool:
    """Whether PostgreSQL and Redis answer nearly as fast as unsqueezed."""
    factors = (MEDIAN_FACTOR, P99_FACTOR)
    return all(
        program in now and all(one <= factor * free for one, factor, free in zip(now[program], factors, unsqueezed[program], strict=True))
        for program in SERVERS
    )


def usual(runs: Sequence[Run]) -> Latencies:
    """Return median and p99 of each server, unsqueezed: the medians over all runs. One run's p99 varies by a factor of two."""
    free = [run["latencies_unsqueezed"] for run in runs]
    return {program: [statistics.median(one[program][column] for one in free) for column in (0, 1)] for program in SERVERS}


def taken_within_bound(trace: Sequence[Moment], unsqueezed: Latencies) -> float:
    """Return the most MiB taken while the servers answered nearly as fast as unsqueezed, and before a kill."""
    return taken_at_work([moment for moment in trace if moment.kills or within_bound(moment.latencies, unsqueezed)])


def result(trace: Sequence[Moment], unsqueezed: Latencies, squeezed: Latencies) -> dict[str, Any]:
    """Return what a run of the mix adds to its result; nothing for other mixes."""
    if not all(program in unsqueezed for program in SERVERS):
        return {}
    return {"latencies_unsqueezed": unsqueezed, "latencies": squeezed, "latencies_at_end": trace[-1].latencies}


def programs_table(results: Path, runs: Sequence[Run]) -> str:
    """Each manager: what programs feel over the whole squeeze, what was taken within the bound, and kills."""
    chosen = [run for run in runs if run["mix"] == MIX]
    if not chosen:
        return "Nothing has been measured yet."
    names = [f"{title}, {what}" for program, title in TITLES.items() for what in _columns(program)]
    heading = ["manager", "balloons", "runs", *names, "taken within the bound, MiB", "killed", "ended by", "taken at ≥ 95 % of work, MiB"]
    rows = [["unsqueezed", "", f"{len(chosen)}", *_cells(chosen, "latencies_unsqueezed"), "-", "-", "-", "-"]]
    free = usual(chosen)
    for name, manager in MANAGERS.items():
        for switches, mine in sorted(by_switches(of(chosen, MIX, name)).items()):
            traces = [[Moment.from_json(moment) for moment in traced(results, run)] for run in mine]
            within = figure([round(taken_within_bound(trace, free)) for trace in traces])
            kills, taken = (figure([run[key] for run in mine]) for key in ("kills", "taken"))
            rows.append([manager.title, switches or "plain", f"{len(mine)}", *_cells(mine, "latencies"), within, kills, ends(mine), taken])
    return table(heading, rows)


def _columns(program: str) -> Sequence[str]:
    return ("median ms", "p99 ms") if program in SERVERS else ("median s", "worst s")


def _cells(runs: Sequence[Run], key: str) -> list[str]:
    factors = {program: 1.0 if program in SERVERS else 0.001 for program in TITLES}
    return [
        figure([run[key][program][column] if program in run[key] else None for run in runs], 1, factor)
        for (program, factor), column in itertools.product(factors.items(), (0, 1))
    ]
