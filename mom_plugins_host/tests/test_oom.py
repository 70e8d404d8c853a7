"""The plugin `oom`: the kernel's order of kills follows service classes."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from mom_core import EngineState, Host, LedgerEntry, PluginContext, PluginSettings, Snapshot, Value
from mom_devkit import FakeGuest, FakeHypervisor, apply_decisions
from mom_plugins_host.oom import SCORE, OomPlugin, scores


@pytest.mark.parametrize(
    ("priorities", "expected"),
    [
        ({}, {}),
        ({"a": 50, "b": 50}, {}),
        ({"a": 90, "b": 10}, {"a": 0, "b": 1000}),
        ({"a": 90, "b": 10, "c": 50, "d": 50}, {"a": 0, "b": 1000, "c": 500, "d": 500}),
    ],
)
def test_the_lowest_class_has_the_highest_score(priorities: dict[str, float], expected: dict[str, int]) -> None:
    assert scores(priorities) == expected


PIDS: Final = {"low": 1000, "high": 2000, "own": 3000}


class Scene:
    """Guests with priorities. Their processes are files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for pid in PIDS.values():
            self.file(pid).parent.mkdir(parents=True)
            self.file(pid).write_text("0\n")
        self.file(PIDS["own"]).write_text("-500\n")
        self.hypervisor = FakeHypervisor([FakeGuest(name, properties={"pid": pid}) for name, pid in PIDS.items()])
        self.ledger: list[LedgerEntry] = []
        self.plugin = OomPlugin(PluginSettings(), PluginContext(root=root, engine_state=lambda: EngineState(changes=self.ledger)))

    def file(self, pid: int) -> Path:
        return self.root / f"proc/{pid}/oom_score_adj"

    def cycle(self, **priorities: Value) -> dict[str, Value]:
        """Run a cycle, and return the decided values keyed by guest."""
        guests = self.hypervisor.guests()
        fields = self.plugin.mom_collect_guests(guests)
        seen = [replace(guest, fields={**fields.get(guest.id, {}), "priority": priorities.get(guest.name)}) for guest in guests]
        decisions = list(self.plugin.mom_act(Snapshot(Host(), {guest.id: guest for guest in seen})))
        for outcome in apply_decisions(self.plugin, decisions, self.hypervisor):
            decision = outcome.decision
            self.ledger.append(LedgerEntry(decision.entity, SCORE, outcome.before, outcome.after, "oom", 0.0))
        return {decision.entity.name: decision.value for decision in decisions}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_scores_are_set_once_classes_are_in_use(scene: Scene) -> None:
    assert scene.cycle() == {}
    assert scene.cycle(low=10, high=90) == {"low": 1000}
    assert scene.file(PIDS["low"]).read_text().strip() == "1000"
    assert scene.cycle(low=10, high=90) == {}
    assert scene.cycle(low=90, high=10) == {"low": 0, "high": 1000}


def test_a_score_of_another_program_stays(scene: Scene) -> None:
    assert scene.cycle(own=10, high=90) == {}


def test_a_guest_whose_process_is_unknown_is_left_out(scene: Scene) -> None:
    scene.hypervisor.known["low"].properties.clear()
    assert scene.cycle(low=10, high=90) == {}
