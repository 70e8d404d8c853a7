"""Sums of `mom report` equal those of the simulated world, second by second, within 2 %."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mom_core import Clock, Engine, load_config
from mom_plugins_record.report.command import report
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.scenario.schema import find_scenario, read_scenario

pytestmark = pytest.mark.long

MIDNIGHT = 1_767_225_600.0
GIB_HOUR = (1 << 20) * 3600.0
WITHIN = 0.02
SECONDS = 2400


Truth = Mapping[str, float]
"""Sums of the world: KiB·s, and counts."""


def simulated(folder: Path, scenario: str, seconds: int, *, acts: bool = True) -> Truth:
    """Run a world with a recorder, and sum up the world each second."""
    now = 0.0
    path = find_scenario(scenario)
    plugins = {"sim": {"scenario": str(path)}, "balloon": {}, "ksm": {}, "policy": {}, "record": {"path": str(folder), "reserve": "0"}}
    interval = read_scenario(path).interval
    content = {
        "interval": f"{interval:g}s",
        "mode": "enforce" if acts else "observe",
        "state_directory": str(folder.parent / "state"),
        "run_directory": str(folder.parent / "run"),
        "plugins": plugins,
    }
    truth: defaultdict[str, float] = defaultdict(float)
    with Engine(load_config(content), Clock(lambda: now, lambda: MIDNIGHT + now)) as engine:
        hypervisor = engine.hypervisor
        assert isinstance(hypervisor, SimHypervisor)
        due = interval
        engine.cycle()
        for second in range(1, seconds + 1):
            now = float(second)
            reason = hypervisor.news()
            world = hypervisor.world
            for guest in world.guests.values():
                memory = guest.memory
                truth["sold"] += memory.maximum
                truth["had"] += memory.size
                truth["held"] += memory.touched + memory.traits.qemu_overhead
            truth["merged"] += world.ksm.saved_kib
            truth["available"] += world.host.available
            if now >= due or reason:
                engine.cycle(reason)
                due = now + interval if now >= due else due
        truth["killed"] = world.killed + sum(guest.memory.killed for guest in world.guests.values())
    return truth


def told(folder: Path, *more: str) -> dict[str, Any]:
    done = CliRunner().invoke(report, [str(folder), "--json", *more])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    folder = tmp_path_factory.mktemp("squeeze") / "recording"
    return folder, simulated(folder, "squeeze", SECONDS)


def test_the_sums_of_the_accounts_are_those_of_the_world(ran: tuple[Path, Truth]) -> None:
    folder, truth = ran
    whole = told(folder)["whole"]["figures"]
    sold, had, held = (truth[name] / GIB_HOUR for name in ("sold", "had", "held"))
    assert whole["sold_gib_hours"] == pytest.approx(sold, rel=WITHIN)
    assert whole["held_gib_hours"] + whole["swapped_gib_hours"] == pytest.approx(held, rel=WITHIN)
    assert whole["ballooned_gib_hours"] == pytest.approx(sold - had, rel=WITHIN, abs=0.02 * held)
    assert whole["had_gib"] == pytest.approx(truth["had"] / SECONDS / (1 << 20), rel=WITHIN)
    assert whole["killed"] == truth["killed"]


def test_ksm_and_host_use_match_the_world(ran: tuple[Path, Truth]) -> None:
    folder, truth = ran
    found = told(folder)
    # Less KSM's metadata: 64 bytes for each scanned page.
    books = 0.02 * truth["held"] / GIB_HOUR
    assert found["whole"]["figures"]["given_back_ksm_gib_hours"] == pytest.approx(truth["merged"] / GIB_HOUR, rel=WITHIN, abs=books)
    used = found["host"]["total_gib"] - truth["available"] / SECONDS / (1 << 20)
    assert found["host"]["used_average_gib"] == pytest.approx(used, rel=WITHIN)


def test_gain_lies_within_the_stated_bounds(ran: tuple[Path, Truth], tmp_path: Path) -> None:
    folder, truth = ran
    without = simulated(tmp_path / "recording", "squeeze", SECONDS, acts=False)
    gained = (without["held"] - truth["held"] + truth["merged"]) / GIB_HOUR
    whole = told(folder)["whole"]["figures"]
    assert gained > 0
    assert whole["given_back_at_least_gib_hours"] <= gained * (1 + WITHIN)
    assert gained <= whole["given_back_at_most_gib_hours"] * (1 + WITHIN)
