"""Latencies of the programs in the guests of the mix `programs`, unsqueezed and squeezed, and their table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guests_told import Listener
from managers import MANAGERS
from merit import Moment, Run, taken_at_work
from squeeze_report import by_switches, ends, figure, of
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


def result(trace: Sequence[Moment], unsqueezed: Latencies, squeezed: Latencies) -> dict[str, Any]:
    """Return what a run of the mix adds to its result; nothing for other mixes."""
    if not all(program in unsqueezed for program in SERVERS):
        return {}
    counted = [moment for moment in trace if moment.kills or within_bound(moment.latencies, unsqueezed)]
    return {
        "latencies_unsqueezed": unsqueezed,
        "latencies": squeezed,
        "latencies_at_end": trace[-1].latencies,
        "taken_within_bound": round(taken_at_work(counted)),
    }


def programs_table(runs: Sequence[Run]) -> str:
    """Each manager: what programs feel over the whole squeeze, what was taken within the bound, and kills."""
    names = [f"{title}, {what}" for program, title in TITLES.items() for what in _columns(program)]
    heading = ["manager", "balloons", "runs", *names, "taken within the bound, MiB", "killed", "ended by", "taken at ≥ 95 % of work, MiB"]
    chosen = [run for run in runs if run["mix"] == MIX]
    rows = [["unsqueezed", "", f"{len(chosen)}", *_cells(chosen, "latencies_unsqueezed"), "-", "-", "-", "-"]]
    for name, manager in MANAGERS.items():
        for switches, mine in sorted(by_switches(of(chosen, MIX, name)).items()):
            figures = [figure([run[key] for run in mine]) for key in ("taken_within_bound", "kills", "taken")]
            cells = [*_cells(mine, "latencies"), *figures[:2], ends(mine), figures[2]]
            rows.append([manager.title, switches or "plain", f"{len(mine)}", *cells])
    return table(heading, rows) if chosen else "Nothing has been measured yet."


def _columns(program: str) -> Sequence[str]:
    return ("median ms", "p99 ms") if program in SERVERS else ("median s", "worst s")


def _cells(runs: Sequence[Run], key: str) -> list[str]:
    factors = {program: 1.0 if program in SERVERS else 0.001 for program in TITLES}
    return [
        figure([run[key][program][column] if program in run[key] else None for run in runs], 1, factor)
        for (program, factor), column in itertools.product(factors.items(), (0, 1))
    ]
