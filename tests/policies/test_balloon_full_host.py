"""The balloon law on a host that another program fills."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mom_core import Report
from mom_kvm import SimulationSetup
from mom_plugins_sim.scenario.library import read_scenario
from mom_plugins_sim.simulate.run import run_scenario

KEPT_SECONDS = 60.0
BURSTS = {"base": "25%", "burst": "40%", "period": "100s", "duty": "30%"}
FULL_HOST = {
    "title": "A full host",
    "lasts": "6m",
    "interval": "5s",
    "host": {"memory": "4GiB", "swap": "4GiB", "load": [{"at": "60s", "lasts": "1d", "memory": "2GiB", "growth": "200MiB"}]},
    "guests": {
        "small": {"count": 10, "memory": "256MiB", "workload": {"bursty": {**BURSTS, "burst": "60%"}}, "files": "5%"},
        "large": {"count": 7, "memory": "512MiB", "workload": {"bursty": {**BURSTS, "period": "180s"}}},
    },
}


class SizedGuest(NamedTuple):
    """One guest in one cycle, in KiB."""

    name: str
    time: float
    code: str
    usable: float
    growth: float


def sized(report: Report) -> Iterator[SizedGuest]:
    seen = report.snapshot
    numbers = map(seen.numbers, ("balloon_cur", "mem_usable", "balloon_suggested"))
    for guest, code, size, usable, suggested in zip(seen.listed, seen.column("balloon_reason"), *numbers, strict=True):
        if size is not None and usable is not None and suggested is not None:
            yield SizedGuest(guest.name, seen.monotonic, str(code), usable, suggested - size)


def test_what_a_guest_got_when_it_ran_out_is_not_taken_again_within_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    path.write_text(json.dumps(FULL_HOST))
    scenario = read_scenario(path)
    got: dict[str, SizedGuest] = {}
    for report in run_scenario(scenario, path, SimulationSetup("defaults"), None, scenario.lasts):
        for guest in sized(report):
            last = got.get(guest.name)
            if guest.code == "runs-out" and guest.growth > 0:
                got[guest.name] = guest
            elif last is not None and guest.code.startswith("trim") and guest.time - last.time < KEPT_SECONDS:
                assert guest.usable + guest.growth >= last.usable + last.growth - 1, (last, guest)
    assert got, "no guest ran out"
