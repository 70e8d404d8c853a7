"""A simulated host that is full for a while: cheap guests are saved, and come back when the load has gone."""

import json
from pathlib import Path

import pytest

from mom_devkit import run_plugins

SIM = {"guests": 12, "host_memory": "8GiB", "sold": 0.9, "load": "7GiB", "load_after": "60s", "load_for": "900s"}
CLASSES = {"web-*": {"class": "platinum"}, "db-*": {"class": "gold"}, "build-*": {"class": "compute"}, "idle-*": {"class": "vapor"}}


@pytest.mark.long
def test_vapor_guests_are_saved_while_the_host_is_full_and_brought_back(tmp_path: Path) -> None:
    plugins = {"sim": SIM, "sla": {}, "eviction": {"enabled": True, "calm_for": "120s"}, "policy": {}}
    found = run_plugins(tmp_path, plugins, cycles=360, guests=CLASSES)
    saved = [o.decision.entity.name for r in found.reports for o in r.outcomes if o.decision.control == "guest_save"]
    assert saved
    assert all(name.startswith("idle-") for name in saved)
    assert len(saved) == len(set(saved)), "nobody is saved twice"
    stopped = [report.snapshot.host.number("guests_stopped") or 0 for report in found.reports]
    assert 1 <= max(stopped) <= 3
    assert stopped[-1] == 0
    assert len(found.reports[-1].snapshot.guests) == 12, "everybody is there again"
    assert json.loads((tmp_path / "state" / "eviction" / "jobs.json").read_text())["content"] == []
