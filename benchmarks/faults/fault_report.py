"""Results of a campaign of faults, as text and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fault_kinds import KINDS
from tables import filled, table

Result = Mapping[str, Any]

SURE: Final = 0.95
"""Confidence of a bound."""


def tried(results: Sequence[Result]) -> list[Result]:
    """Return the results of faults that could be tried."""
    return [one for one in results if "not_tried" not in one]


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of at least one value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def bound(broken: int, count: int) -> float:
    """Return the upper bound of the ratio of faults that break something (Poisson distribution). For 0 of n, it is 3/n."""
    low, high = 0.0, 10.0 * (broken + 1)
    for _ in range(60):
        middle = (low + high) / 2
        so_few = sum(math.exp(-middle) * middle**k / math.factorial(k) for k in range(broken + 1))
        low, high = (middle, high) if so_few > 1 - SURE else (low, middle)
    return min(1.0, high / count)


def percent(share: float) -> str:
    """Return a ratio in percent with two digits."""
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"


def summary(results: Sequence[Result]) -> str:
    """Return the results in a few sentences."""
    happened = tried(results)
    if not happened:
        return "No campaign of this version is kept yet."
    broken = [one for one in happened if one["broke"]]
    recoveries = [one["recovery"] for one in happened if one["recovery"] is not None]
    by = {what: sum(what in one["broke"] for one in broken) for what in sorted({what for one in broken for what in one["broke"]})}
    lines = [
        f"{len(happened):,} faults of {len({one['kind'] for one in happened})} kinds, {len(broken)} of which broke something"
        + (f" ({', '.join(f'{what}: {count}' for what, count in by.items())})" if by else "")
        + f": a rate below {percent(bound(len(broken), len(happened)))} % with 95 % confidence.",
        f"Recovery took at most {quantile(recoveries, 0.5):.1f} s after half of the faults, {quantile(recoveries, 0.99):.1f} s after 99 of"
        f" 100, and {max(recoveries):.1f} s after the slowest.",
    ]
    if len(happened) < len(results):
        lines.append(f"{len(results) - len(happened)} more could not be tried, as something else was in the way.")
    return " ".join(lines)


def table_of(results: Sequence[Result]) -> str:
    """Return a table of kinds: number of faults, broken promises, recovery times, and an upper bound of the failure rate."""
    happened = tried(results)
    rows = []
    for name, kind in KINDS.items():
        mine = [one for one in happened if one["kind"] == name]
        if mine:
            rows.append([kind.says, *_figures(mine)])
    if not rows:
        return "Nothing has been measured yet."
    rows.append(["all", *_figures(happened)])
    return table(
        ["what goes wrong", "faults", "broken promises", "recovery in s: half of the faults", "99 of 100", "slowest", "rate below, %"], rows
    )


def _figures(mine: Sequence[Result]) -> list[str]:
    recoveries = [one["recovery"] for one in mine if one["recovery"] is not None] or [math.nan]
    broken = sum(bool(one["broke"]) for one in mine)
    times = (quantile(recoveries, 0.5), quantile(recoveries, 0.99), max(recoveries))
    return [f"{len(mine):,}", str(broken), *(f"{seconds:.1f}" for seconds in times), percent(bound(broken, len(mine)))]


def fill(page: Path, readme: Path, results: Sequence[Result]) -> None:
    """Write the summary to a page and the table to a README, between `<!-- faults -->` and `<!-- end -->`."""
    for file, text in ((page, summary(results)), (readme, table_of(results))):
        file.write_text(filled(file.read_text("utf-8"), {"faults": text}), "utf-8")
