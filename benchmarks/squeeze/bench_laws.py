"""Balloon laws side by side on the simulated host: nobody, oVirt MOM's law, Proxmox VE's, and mom's default policy.

`.venv/bin/python benchmarks/squeeze/bench_laws.py [SCENARIO …] [--seeds 1 2 3] [--hours 0.5]` prints one row for each scenario and law.
The laws of others stand in `laws/`, written from descriptions of what they do. They run inside mom: its review keeps each guest's need and
reserve whoever decides, and a cycle is as long as the scenario says, so they do better here than by themselves. A scenario may be a file.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mom_core import Value, format_kib
from mom_plugins_sim.scenario.library import find_scenario, read_scenario
from mom_plugins_sim.simulate.run import run_scenario
from mom_toolkit import RunSummary, SimulationSetup

SCENARIOS = ("boot-storm", "everything", "leak", "noisy-neighbour", "quiet-night", "squeeze")
LAWS = Path(__file__).parent / "laws"


class Row(NamedTuple):
    """What came of one scenario under one law."""

    scenario: str
    seed: int
    summary: RunSummary


def setups() -> list[SimulationSetup]:
    """What is compared; the balloon plugin alone, so that KSM does not blur it."""
    balloon: dict[str, dict[str, Value]] = {"balloon": {}}
    others = {"MOM's law": "mom.policy", "PVE's law": "pve.policy"}
    return [
        SimulationSetup("nothing", acts=False),
        *(SimulationSetup(name, plugins=balloon, texts={"50_balloon": (LAWS / file).read_text("utf-8")}) for name, file in others.items()),
        SimulationSetup("mom", plugins=balloon),
    ]


def compared(name: str, seed: int, hours: float | None) -> list[Row]:
    """One row for each law."""
    path = find_scenario(name)
    scenario = read_scenario(path)
    lasts = scenario.lasts if hours is None else min(scenario.lasts, hours * 3600)
    rows: list[Row] = []
    for setup in setups():
        summary = RunSummary(setup.name)
        for report in run_scenario(scenario, path, setup, seed, lasts):
            summary.add(report)
        rows.append(Row(path.stem, seed, summary))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=list(SCENARIOS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--hours", type=float, help="no longer than this")
    parser.add_argument("--json", action="store_true")
    wished = parser.parse_args(arguments)
    logging.getLogger("mom").setLevel(logging.CRITICAL)
    rows = [row for name in wished.scenarios for seed in wished.seeds for row in compared(name, seed, wished.hours)]
    if wished.json:
        print(json.dumps([{"scenario": row.scenario, "seed": row.seed, **row.summary.as_json()} for row in rows], indent=2))
        return
    print(f"{'scenario':<16} {'seed':>4} {'law':<10} {'killed':>6} {'work':>9} {'taken':>10} {'host swap':>10} {'changes/h':>10}")
    for scenario, seed, one in rows:
        taken = format_kib(one.reclaimed / (one.seconds or 1.0))
        print(
            f"{scenario:<16} {seed:>4} {one.name:<10} {one.killed:>6} {100 * one.work_done:>7.2f} % {taken:>10} "
            f"{format_kib(one.most_swapped):>10} {3600 * one.applied / (one.seconds or 1.0):>10.0f}"
        )


if __name__ == "__main__":
    main()
