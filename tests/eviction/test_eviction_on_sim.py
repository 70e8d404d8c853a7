"""A simulated host that is full for a while: cheap guests are saved, and come back when the load has gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mom_core import Status
from mom_devkit import PluginRun, run_plugins

SIM = {"guests": 12, "host_memory": "8GiB", "sold": 0.9, "load": "7GiB", "load_after": "60s", "load_for": "900s"}
CLASSES = {"web-*": {"class": "platinum"}, "db-*": {"class": "gold"}, "build-*": {"class": "compute"}, "idle-*": {"class": "vapor"}}
EVICTION = {"enabled": True, "calm_for": "120s"}


def run(folder: Path, *, mode: str = "enforce", cycles: int = 360) -> PluginRun:
    plugins = {"sim": SIM, "sla": {}, "eviction": EVICTION, "policy": {}}
    return run_plugins(folder, plugins, cycles=cycles, guests=CLASSES, mode=mode)


def stopped(found: PluginRun) -> list[object]:
    return [report.snapshot.host.fields["guests_stopped"] for report in found.reports]


def test_vapor_guests_are_saved_while_the_host_is_full_and_brought_back(tmp_path: Path) -> None:
    found = run(tmp_path)
    saved = [o.decision.entity.name for r in found.reports for o in r.outcomes if o.decision.control == "guest_save"]
    assert saved
    assert all(name.startswith("idle-") for name in saved)
    assert len(saved) == len(set(saved)), "nobody is saved twice"
    most = max(number for number in stopped(found) if isinstance(number, int))
    assert 1 <= most <= 3
    assert stopped(found)[-1] == 0
    assert len(found.reports[-1].snapshot.guests) == 12, "everybody is there again"
    assert json.loads((tmp_path / "state" / "eviction" / "jobs.json").read_text())["content"] == []


def test_observing_shows_the_ladder_and_touches_nobody(tmp_path: Path) -> None:
    found = run(tmp_path, mode="observe", cycles=150)
    assert any("would be announced" in problem for problem in found.problems)
    assert {o.status for r in found.reports for o in r.outcomes} == {Status.OBSERVED}
    assert {len(report.snapshot.guests) for report in found.reports} == {12}


@pytest.mark.parametrize("control", ["guest_save", "guest_shutdown", "guest_pause"])
def test_a_policy_that_would_stop_everybody_stops_a_quarter_and_none_whose_class_forbids_it(tmp_path: Path, control: str) -> None:
    everybody = f'(defun go (guest) (guest.Control "{control}" 1))\n(with Guests guest (go guest))\n'
    plugins = {"sim": SIM, "sla": {}, "eviction": {}, "policy": {}}
    classes = {"*": {"class": "vapor"}, "web-*": {"class": "platinum"}}
    found = run_plugins(tmp_path, plugins, cycles=60, guests=classes, policies={"50_everybody": everybody})
    assert stopped(found)[-1] == 3
    done = {o.decision.entity.name for report in found.reports for o in report.outcomes if o.status is Status.APPLIED}
    assert not any(name.startswith("web-") for name in done)
    reasons = {revision.reason for report in found.reports for revision in report.revisions}
    assert any("class platinum does not allow it" in reason for reason in reasons)
    assert "3 guests are stopped, or about to be, and more than 3 of 12 must not be" in reasons
