"""Bursts that do not fit on the host together, with and without growth on credit (the setting `credit` of the plugin cgroup)."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from mom_core import Value
from mom_kvm import RunSummary, SimulationSetup, field_number
from mom_plugins_sim import guest, plugin
from mom_plugins_sim.scenario.schema import read_scenario
from mom_plugins_sim.scene import Scene
from mom_plugins_sim.simulate.command import SETUPS, run_scenario
from mom_plugins_sim.world import World

MIB: Final = 1 << 10

JUMPS: Final = (20, 27, 35, 42)
"""Percent of 4 GiB: 0.8 to 1.7 GiB."""

FAST: Final = 850 * MIB
"""KiB/s: a jump of 1.7 GiB within 2 s."""

_SMALL_FILES: Final = {"files": "2%", "hot": "1%", "duplicate": 0}


def _sandbox(jump: int) -> dict[str, Any]:
    workload = {"batch": {"base": "3%", "job": f"{jump}%", "every": "5m", "lasts": "10s"}}
    return {"count": 10, "memory": "4GiB", "workload": workload, **_SMALL_FILES}


_HOG: Final = {"batch": {"base": "10%", "job": "49%", "every": "34s", "lasts": "11s"}}
"""100 MiB, and 500 MiB more for a quarter of the time, every 45 s on average."""

SCENARIOS: Final[dict[str, tuple[str, int, dict[str, Any]]]] = {
    "sandboxes": ("24GiB", FAST, {f"jumps-{jump}": _sandbox(jump) for jump in JUMPS}),
    "reporting": ("7.5GiB", guest.GROWTH_RATE, {"hog": {"count": 12, "memory": "1GiB", "workload": _HOG, **_SMALL_FILES}}),
}
"""The host's memory, the KiB/s at which programs fill memory, and guests. All guests have free page reporting."""


class WatchedWorld(World):
    """World that records the host's memory in each step: mom's cycles see only some of them."""

    latest: WatchedWorld

    def __init__(self, scene: Scene, now: float = 0.0) -> None:
        super().__init__(scene, now)
        self.least, self.times, self.seconds, self._was_exhausted = float("inf"), 0, 0.0, False
        self.look = lambda: None  # as many steps without growth on credit as with it
        WatchedWorld.latest = self

    def step(self, dt: float) -> None:
        """Advance, and look at the host."""
        super().step(dt)
        is_exhausted = self.host.available <= 0
        self.least = min(self.least, self.host.available)
        self.seconds += dt * is_exhausted
        self.times += is_exhausted and not self._was_exhausted
        self._was_exhausted = is_exhausted


def run(path: Path, setup: SimulationSetup, seed: int) -> dict[str, float]:
    """Run a scenario, and return its figures in MiB and seconds."""
    scenario, summary, high = read_scenario(path), RunSummary(setup.name), []
    for report in run_scenario(scenario, path, setup, seed, scenario.lasts):
        summary.add(report)
        high.append(field_number(report.snapshot.host.fields, "mem_watermark_high"))
    world = WatchedWorld.latest
    return {
        "exhausted": world.times,
        "seconds": world.seconds,
        "killed": summary.killed,
        "work": summary.work_done,
        "least": world.least / MIB,
        "available": (summary.available.mean or 0.0) / MIB,
        "high": statistics.fmean(high) / MIB,
    }


def on_credit(name: str, **balloon: Value) -> SimulationSetup:
    """Return `credit` with these settings of the plugin balloon."""
    return SimulationSetup(f"credit, {name}", plugins={**(SETUPS["credit"].plugins or {}), "balloon": balloon})


def main() -> None:
    """Print a line per run. With `half` and `truthful`, the high watermark is half of the average under the defaults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", choices=[*SCENARIOS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lasts", default="30m")
    parser.add_argument("--autodeflate", action="store_true")
    arguments = parser.parse_args()
    balloon = {"reporting": True, "autodeflate": arguments.autodeflate}
    for name in [arguments.scenario] if arguments.scenario else SCENARIOS:
        memory, guest.GROWTH_RATE, groups = SCENARIOS[name]
        guests = {group: {**settings, "balloon": balloon} for group, settings in groups.items()}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scenario.yaml"
            path.write_text(json.dumps({"title": name, "lasts": arguments.lasts, "host": {"memory": memory}, "guests": guests}))
            for seed in range(1, arguments.seeds + 1):
                usual: dict[str, float] = {}
                for choice in ("nothing", "defaults", "credit", "half", "truthful"):
                    half = {"host_free": f"{usual['high'] / 2:.0f}MiB"} if usual else {}
                    setups = {**SETUPS, "half": on_credit("half", **half), "truthful": on_credit("truthful", goal="truthful", **half)}
                    setup = setups[choice]
                    with patch.object(plugin, "World", WatchedWorld):
                        figures = run(path, setup, seed)
                    usual = figures if choice == "defaults" else usual
                    text = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
                    print(f"{name} {seed} {setup.name:15} {text}", flush=True)


if __name__ == "__main__":
    main()
