"""A simulated host is full for a while: mom saves cheap guests, and starts them again later."""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from mom_core import Decision, PluginContext, PluginSettings, Snapshot, hookimpl
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


LEAVES = "build-02"


class Mover:
    """Evaluator that moves the guest in every cycle."""

    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        pass

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> list[Decision]:
        return [Decision(one.entity, "guest_migrate", "qemu://h2/system") for one in snapshot.guests.values() if one.name == LEAVES]


@pytest.mark.long
@pytest.mark.parametrize("sweep", ["60s", "0s"])
def test_a_guest_gives_what_it_has_freed_before_it_is_moved_and_goes_with_all_of_its_room(
    tmp_path: Path, sweep: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host = {"shelf": str(tmp_path / "shelf"), "guests": 12, "host_memory": "32GiB", "sold": 0.6}
    run_plugins(tmp_path / "h2", {"sim": {**host, "host": "h2", "guests": 1, "seed": 2}}, cycles=1)

    def between(number: int) -> None:
        if number > 158 and len([*(tmp_path / "shelf/h2").glob("*.json")]) == 1:
            time.sleep(0.3)  # not moved yet: threads move it

    plugins: dict[str, type | Mapping[str, object]] = {
        "sim": {**host, "host": "h1"},
        "balloon": {},
        "sla": {"classes": {"leaves": {"may_migrate": True, "warning": "800s"}}},
        "eviction": {"destination": "qemu://h2/system", "sweep": sweep},
        "policy": {},
        "mover": Mover,
    }
    found = run_plugins(tmp_path / "h1", plugins, cycles=180, guests={LEAVES: {"class": "leaves"}}, between=between)
    assert found.applied("guest_migrate", LEAVES) == ["qemu://h2/system"]
    held = [kib for kib in found.values(LEAVES, "rss") if isinstance(kib, int | float)]
    sizes = [kib for kib in found.values(LEAVES, "balloon_cur") if kib is not None]
    assert len(held) < 180, "it is gone"
    assert ("preparation of its move: reclaimed" in caplog.text) is (sweep != "0s"), "the host had plenty, and took nothing otherwise"
    assert sizes[-1] == found.values(LEAVES, "balloon_max")[0]
    sized = [one.reason for report in found.reports for one in report.decisions if one.control == "balloon_target"]
    assert any("it will be moved" in reason for reason in sized) is (sweep != "0s")
