"""What came of guests with days: one table, and how much more was taken with forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from days import AHEAD_SECONDS, FORECAST, LAST, TITLES, UNSQUEEZED
from squeeze_report import table

AS_FAST: Final = 1.05
"""Ratio. Bursts that take no longer than so many times what they take unsqueezed are as fast."""

Run = Mapping[str, Any]

HEADING: Final = (
    "who manages", "day", "taken MiB", "grown", "burst s", "of unsqueezed", "slowest s", "of unsqueezed", "last after s", "slot p99 ms",
    "killed", "least available MiB", "expected MiB",
)  # fmt: skip


def days_text(runs: Sequence[Run]) -> str:
    """A part for each kind of run: with days that are as long, and as many guests."""
    kinds = sorted({_kind(run) for run in runs})
    return "\n\n".join(_part([run for run in runs if _kind(run) == kind]) for kind in kinds) or "Nothing has been measured yet."


def _kind(run: Run) -> tuple[int, int, int]:
    return run["day"], run["guests"], run["available"]


def _part(runs: Sequence[Run]) -> str:
    day, guests, available = _kind(runs[0])
    before = reference(runs)
    rows = [_row(TITLES[UNSQUEEZED], "first ones", {"taken": 0, **before}, None)] if before is not None else []
    squeezed = sorted(
        (run for run in runs if run["manager"] != UNSQUEEZED), key=lambda run: (list(TITLES).index(run["manager"]), run["amounts"])
    )
    for run in squeezed:
        rows += [_row(_who(run), _day(seen), seen, before) for seen in run["mornings"]]
        if run["ended"] != LAST:
            ended = f"{run['ended']} on {run['at']}, with {run['taken_at_end']:,} MiB taken, {run['kills']} killed"
            rows.append([_who(run), ended, *["-"] * (len(HEADING) - 2)])
    title = f"{guests} guests, days of {day / 60:g} minutes, {available:,} MiB available before anything was taken:"
    return "\n\n".join([title, table(HEADING, rows), *told(squeezed, before)])


def _who(run: Run) -> str:
    ahead = run["ahead"]
    other = run["manager"] == FORECAST and ahead != AHEAD_SECONDS
    return f"{TITLES[run['manager']]}, {ahead:g} s ahead" if other else TITLES[run["manager"]]


def _day(seen: Mapping[str, Any]) -> str:
    return f"{seen['day']}, which differs" if seen["differs"] else f"{seen['day']}"


def reference(runs: Sequence[Run]) -> Mapping[str, Any] | None:
    """The rise of the last unsqueezed days; None: there were none."""
    return next((run["rise"] for run in reversed(runs) if run["manager"] == UNSQUEEZED), None)


def ratio(value: float | None, of: float | None) -> float | None:
    """None where one is unknown."""
    return value / of if value is not None and of else None


def as_fast(seen: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """True if all bursts of that rise grew as fast as unsqueezed, and no program was killed."""
    if seen["kills"] or seen["grown"] < seen["wanted"]:
        return False
    ratios = [ratio(seen[name], before[name]) for name in ("mean", "slowest")]
    return all(one is not None and one <= AS_FAST for one in ratios)


def told(runs: Sequence[Run], before: Mapping[str, Any] | None) -> Sequence[str]:
    """How much could be taken with bursts as fast as unsqueezed, by who managed; and the fourth day, where the same was taken."""
    if before is None:
        return ["Nothing has been seen unsqueezed yet."]
    rises = [(run["manager"], seen) for run in runs for seen in run["mornings"]]
    fast = [(name, seen["taken"]) for name, seen in rises if not seen["differs"] and as_fast(seen, before)]
    most = {
        name: max((taken for other, taken in fast if other == name), default=None)
        for name in TITLES
        if any(run["manager"] == name for run in runs)
    }
    figures = "; ".join(f"{TITLES[name]} {'none of what was tried' if mib is None else f'{mib:,} MiB'}" for name, mib in most.items())
    lines = (
        [f"Most that was taken on usual mornings with bursts within {AS_FAST} times of unsqueezed, and none killed: {figures}."]
        if most
        else []
    )
    with_it, without = most.get(FORECAST), most.get("mom")
    if with_it is not None and without:
        lines.append(f"With forecast, that is {100 * (with_it / without - 1):+.0f} %.")
    pairs = [
        (mine, other, mine["wanted_mib"])
        for name, mine in rises
        for another, other in rises
        if (name, another) == (FORECAST, "mom") and mine["differs"] and other["differs"] and mine["wanted_mib"] == other["wanted_mib"]
    ]
    lines += [
        f"Day that differs, {wanted:,} MiB to be taken: slowest burst {_figure(mine['slowest'])} s with forecast, "
        f"{_figure(other['slowest'])} without; killed {mine['kills']}, {other['kills']}."
        for mine, other, wanted in pairs
    ]
    return lines


def _row(who: str, day: str, seen: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[str]:
    times = {name: ratio(seen[name], before[name]) if before is not None else None for name in ("mean", "slowest")}
    return [
        who, day, _figure(seen["taken"], 0), f"{seen['grown']} of {seen['wanted']}",
        _figure(seen["mean"]), _figure(times["mean"]), _figure(seen["slowest"]), _figure(times["slowest"]), _figure(seen["last"], 1),
        _figure(seen["p99_ms"], 0), _figure(seen.get("kills"), 0), _figure(seen.get("available_least"), 0),
        _figure(seen.get("rise_expected"), 0),
    ]  # fmt: skip


def _figure(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
