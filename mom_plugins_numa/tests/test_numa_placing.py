"""Placement over time: patience, one move at a time, what is remembered, and guests that are let go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from numa_trees import GIB

from mom_core import Guest, Snapshot, StateFile, Value
from mom_core.testing import snapshot
from mom_plugins_numa.placement import Rules
from mom_plugins_numa.placement_decisions import (
    AGREE_SECONDS,
    COOLDOWN_SECONDS,
    FORM,
    GAP_SECONDS,
    TAKES_SECONDS,
    Placing,
    place_of,
    rooms_of,
)

CYCLE = 20.0
EVERY = frozenset(range(16))


def nodes(available: tuple[int, int] = (32 * GIB, 32 * GIB)) -> list[Value]:
    return [
        {"node": node, "total": 64 * GIB, "free": size, "available": size, "cpus": f"{8 * node}-{8 * node + 7}", "distances": row}
        for node, size, row in ((0, available[0], [10, 21]), (1, available[1], [21, 10]))
    ]


def apart(memory_on: int = 0, gib: int = 4) -> dict[str, Value]:
    """A busy guest whose memory is on one node and whose CPUs are on the other."""
    return {
        "numa_memory": [{"node": memory_on, "size": gib * GIB}, {"node": 1 - memory_on, "size": 0}],
        "numa_memory_age": 5.0,
        "numa_cpus": [{"node": 1 - memory_on, "share": 1.0}],
        "numa_vcpu_usage": 100.0,
        "balloon_cur": gib * GIB,
        "vcpu_count": 2,
        "vcpu_pins": "0-15",
        "numa_nodeset": "0-1",
        "numa_move_to": -1,
    }


@dataclass
class Host:
    """Applies what is decided at once, unless it is told not to; moves end when a test says so."""

    placing: Placing
    guests: dict[str, dict[str, Value]]
    available: tuple[int, int] = (32 * GIB, 32 * GIB)
    now: float = 0.0
    obeys: bool = True
    log: list[tuple[float, str, str, Value]] = field(default_factory=list)
    pid: int = 1000

    def snapshot(self) -> Snapshot:
        properties: dict[str, Mapping[str, Value]] = {name: {"pid": self.pid} for name in self.guests} if self.pid else {}
        made = snapshot(host={"numa_nodes": nodes(self.available)}, guests=dict(self.guests), properties=properties)
        return replace(made, monotonic=self.now, guests={guest.id: replace(guest, incarnation="1") for guest in made.guests.values()})

    def cycle(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += CYCLE
            for decision in self.placing.decide(self.snapshot()):
                fields = self.guests[decision.entity.name]
                assert decision.reason
                if fields.get(decision.control) == decision.value:
                    continue
                self.log.append((self.now, decision.entity.name, decision.control, decision.value))
                if self.obeys:
                    fields[decision.control] = decision.value
                    if decision.control == "numa_move_to":
                        fields["numa_move"] = "moving" if decision.value != -1 else None

    def changes(self) -> list[tuple[str, str, Value]]:
        found = [(name, control, value) for _, name, control, value in self.log]
        self.log.clear()
        return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "numa" / "homes.json"


def placing(file: Path, *, enabled: bool = True, eligible: bool = True) -> Placing:
    made = Placing("numa", Rules(), lambda guest: eligible, StateFile(file, "homes", FORM), enabled=enabled)
    made.load()
    return made


@pytest.fixture
def host(file: Path) -> Host:
    return Host(placing(file), {"a": apart()})


def test_a_move_is_made_only_when_it_was_worth_it_for_long_enough(host: Host) -> None:
    host.cycle(int(AGREE_SECONDS / CYCLE))
    assert host.changes() == []
    host.cycle()
    assert host.changes() == [("a", "vcpu_pins", "0-7"), ("a", "numa_move_to", 0)]


def test_what_is_worth_it_now_and_then_is_not_done(host: Host) -> None:
    for _ in range(8):
        host.cycle(4)
        host.guests["a"]["numa_vcpu_usage"] = 1.0
        host.cycle()
        host.guests["a"]["numa_vcpu_usage"] = 100.0
    assert host.changes() == []


def test_one_guest_is_moved_at_a_time_and_the_next_one_after_a_pause(host: Host) -> None:
    host.guests["b"] = {**apart(gib=2), "numa_vcpu_usage": 60.0}
    host.cycle(7)
    assert {name for name, _, _ in host.changes()} == {"a"}
    host.cycle(20)
    assert host.changes() == [], "the first one is still being moved"
    host.guests["a"]["numa_move"] = "done"
    began = host.now
    host.cycle(20)
    assert host.log[0][1:] == ("a", "numa_move_to", -1)
    assert [entry[1:] for entry in host.log[1:]] == [("b", "vcpu_pins", "0-7"), ("b", "numa_move_to", 0)]
    assert host.log[1][0] - began >= GAP_SECONDS


def test_nobody_is_moved_while_somebody_else_moves_a_guest(host: Host) -> None:
    host.guests["b"] = {**apart(), "vcpu_pins": "3", "numa_move": "moving", "numa_move_to": 1}
    host.cycle(30)
    assert host.changes() == []


@pytest.mark.parametrize(
    "name", ["numa_memory", "numa_memory_age", "numa_cpus", "numa_vcpu_usage", "balloon_cur", "vcpu_count", "vcpu_pins"]
)
def test_what_is_unknown_holds(host: Host, name: str) -> None:
    host.guests["a"][name] = None
    host.cycle(30)
    assert host.changes() == []


@pytest.mark.parametrize(
    "changed",
    [
        {"vcpu_pins": "0-7"},
        {"vcpu_pins": "0-15;0-7"},
        {"numa_memory_age": 5000.0},
        {"numa_nodeset": "2"},
        {"numa_nodeset": None},
    ],
)
def test_guests_that_others_have_pinned_or_bound_and_old_news_are_left_alone(host: Host, changed: dict[str, Value]) -> None:
    host.guests["a"].update(changed)
    host.cycle(30)
    assert host.changes() == []


def test_a_new_guest_of_which_nothing_is_known_may_keep_all_its_cpus_busy_anywhere(host: Host) -> None:
    host.guests["new"] = {"vcpu_count": 5}
    rooms = rooms_of(host.snapshot())
    assert {node: room.busy for node, room in rooms.items()} == {0: 5.0, 1: 6.0}
    host.guests["new"] = {}
    assert rooms_of(host.snapshot()) == {}
    host.cycle(30)
    assert host.changes() == []


def test_a_guest_whose_node_runs_short_is_let_go_and_left_alone_for_long(host: Host) -> None:
    host.cycle(7)
    host.guests["a"]["numa_move"] = "done"
    host.cycle(5)
    host.changes()
    host.available = (GIB, 32 * GIB)
    host.cycle(1)
    assert host.changes() == [("a", "vcpu_pins", "0-15")]
    host.available = (32 * GIB, 32 * GIB)
    host.cycle(int(COOLDOWN_SECONDS / CYCLE) - 1)
    assert host.changes() == []


def test_a_guest_that_could_not_be_moved_goes_back_to_what_it_was(host: Host) -> None:
    host.cycle(7)
    host.changes()
    host.guests["a"]["numa_move"] = "stopped: node 0 is full"
    host.cycle(2)
    assert host.changes() == [("a", "vcpu_pins", "0-15"), ("a", "numa_move_to", -1)]


def test_what_has_no_effect_is_given_up(host: Host) -> None:
    host.obeys = False
    host.cycle(7)
    assert host.changes()
    host.cycle(int(TAKES_SECONDS / CYCLE) + 2)
    host.changes()
    host.cycle(30)
    assert host.changes() == []


def test_pins_that_somebody_has_changed_are_not_fought_for(host: Host) -> None:
    host.cycle(9)
    host.changes()
    host.guests["a"]["vcpu_pins"] = "3"
    host.cycle(10)
    assert ("a", "vcpu_pins", "0-7") not in host.changes()


def test_a_reload_knows_whom_it_has_placed_and_lets_go_when_placement_is_off(host: Host, file: Path) -> None:
    host.cycle(7)
    host.guests["a"]["numa_move"] = "done"
    host.cycle(2)
    host.changes()
    host.placing = placing(file)
    host.cycle(5)
    assert host.changes() == []
    host.placing = placing(file, eligible=False)
    host.cycle(3)
    assert host.changes() == [("a", "vcpu_pins", "0-15")]
    assert placing(file).decide(host.snapshot()) == []


def test_a_reload_that_switches_placement_off_lets_everybody_go(host: Host, file: Path) -> None:
    host.cycle(9)
    host.changes()
    host.placing = placing(file, enabled=False)
    host.cycle(3)
    assert ("a", "vcpu_pins", "0-15") in host.changes()


def test_a_damaged_file_of_homes_is_as_good_as_none(file: Path) -> None:
    file.parent.mkdir(parents=True)
    for text in ("", "[]", '{"a": 3}', '{"a": {"strange": 1}}', "\0"):
        file.write_text(text)
        placing(file)


def test_a_guest_that_ends_is_forgotten(host: Host) -> None:
    host.cycle(9)
    del host.guests["a"]
    host.cycle(2)
    host.guests["a"] = apart()
    host.changes()
    host.cycle(3)
    assert host.changes() == []


def test_where_the_hypervisor_moves_memory_the_choice_of_nodes_is_narrowed(host: Host) -> None:
    host.pid = 0
    del host.guests["a"]["numa_move_to"]
    host.cycle(7)
    assert host.changes() == [("a", "vcpu_pins", "0-7"), ("a", "numa_nodeset", "0")]
    host.available = (GIB, 32 * GIB)
    host.cycle(8)
    assert host.changes() == [("a", "vcpu_pins", "0-15"), ("a", "numa_nodeset", "0-1")]


def test_blocked_guests_are_left_alone(host: Host) -> None:
    made = host.snapshot()
    guest: Guest = next(iter(made.guests.values()))
    assert place_of(guest, EVERY) is not None
    for control in ("*", "vcpu_pins", "numa_move_to"):
        blocked = {guest.id: replace(guest, blocked={control: "no"})}
        for step in range(20):
            assert list(host.placing.decide(replace(made, guests=blocked, monotonic=CYCLE * step))) == []
