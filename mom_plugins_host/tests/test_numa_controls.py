"""Setting, restoring and reviewing decisions about NUMA."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_promises import FakePromises
from numa_trees import GIB, nodes_tree, process_tree, tree

from mom_core import Decision, EngineState, Guest, LedgerEntry, Outcome, PluginContext, Status, Value
from mom_core.testing import snapshot
from mom_devkit import FakeGuest, FakeHypervisor, apply_decisions
from mom_devkit import put_back as put_entries_back
from mom_kvm import NodeTune
from mom_plugins_host.numa import NumaPlugin
from mom_plugins_host.numa.nodes import OLDEST_SECONDS, parse_pins, reviewed


@pytest.fixture
def hypervisor() -> FakeHypervisor:
    pins = [frozenset(range(8)), frozenset(range(8))]
    return FakeHypervisor([FakeGuest("vm", id="vm", pins=list(pins), nodes=NodeTune("strict", frozenset()), properties={"pid": 1000})])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "root", nodes_tree(), process_tree(1000, {0: 50, 1: 50}))


@pytest.fixture
def plugin(root: Path, hypervisor: FakeHypervisor, tmp_path: Path) -> Iterator[NumaPlugin]:
    made = NumaPlugin(NumaPlugin.Settings(), PluginContext(name="numa", root=root, state_directory=tmp_path / "state"))
    yield made
    made.mom_teardown()


def decision(hypervisor: FakeHypervisor, control: str, value: Value) -> Decision:
    entity = snapshot().host.entity if control == "numa_balancing" else hypervisor.guests()[0].entity
    return Decision(entity, control, value)


def apply(plugin: NumaPlugin, hypervisor: FakeHypervisor, control: str, value: Value) -> Outcome:
    (outcome,) = apply_decisions(plugin, [decision(hypervisor, control, value)], hypervisor)
    return outcome


def put_back(plugin: NumaPlugin, hypervisor: FakeHypervisor, control: str, before: Value, applied: Value) -> Outcome:
    entry = LedgerEntry(decision(hypervisor, control, before).entity, control, before, applied, "numa", 0.0, "1")
    (outcome,) = put_entries_back(plugin, [entry], hypervisor)
    return outcome


def test_a_guest_is_not_bound_while_the_nodes_cannot_be_read_to_which_it_would_be_put_back(
    plugin: NumaPlugin, hypervisor: FakeHypervisor, root: Path
) -> None:
    (root / "sys/devices/system/node").rename(root / "away")
    outcome = apply(plugin, hypervisor, "numa_nodeset", "1")
    assert (outcome.status, "could not restore it" in outcome.error) == (Status.REFUSED, True)
    (root / "away").rename(root / "sys/devices/system/node")
    assert apply(plugin, hypervisor, "numa_nodeset", "1").before == "0-1"


@pytest.mark.parametrize(
    ("control", "value", "reason"),
    [
        ("vcpu_pins", "nonsense", "0 vCPUs, but the guest has 2"),
        ("vcpu_pins", "0;1;2", "3 vCPUs, but the guest has 2"),
        ("numa_nodeset", "", "not a list of nodes"),
    ],
)
def test_nonsense_is_refused(plugin: NumaPlugin, hypervisor: FakeHypervisor, control: str, value: Value, reason: str) -> None:
    outcome = apply(plugin, hypervisor, control, value)
    assert outcome.status is Status.REFUSED
    assert reason in outcome.error


def test_pins_of_each_vcpu_are_put_back_also_where_vcpus_came_later(plugin: NumaPlugin, hypervisor: FakeHypervisor) -> None:
    hypervisor.known["vm"].pins = [frozenset(range(8)) for _ in range(4)]
    done = put_back(plugin, hypervisor, "vcpu_pins", "0-1;2-3", "0-7")
    assert (done.status, done.after) == (Status.APPLIED, "0-1;2-3;0-7;0-7")


@pytest.mark.parametrize(("pinned", "status"), [("0-7", Status.APPLIED), ("0-1", Status.LEFT_ALONE)])
def test_pins_of_the_vcpus_that_are_left_are_put_back(plugin: NumaPlugin, hypervisor: FakeHypervisor, pinned: str, status: Status) -> None:
    hypervisor.known["vm"].pins = list(parse_pins(pinned) or [])
    done = put_back(plugin, hypervisor, "vcpu_pins", "0-1;2-3", pinned)
    assert (done.status, hypervisor.known["vm"].pins) == (status, [frozenset({0, 1})])


@pytest.mark.parametrize(
    ("before", "stands", "after", "status"),
    [
        pytest.param("0-7", "0-3;0-7;0-7", "0-7", Status.APPLIED, id="one was set"),
        pytest.param("0-1;2-3", "0-3;2-3", "0-1;2-3", Status.APPLIED, id="one of several that stood differently"),
        pytest.param("0-7", "0-3;0-3;4-5", "0-3;0-3;4-5", Status.LEFT_ALONE, id="another process has pinned one"),
        pytest.param("0-1;2-3", "0-1;0-1", "0-1", Status.LEFT_ALONE, id="another process has pinned them alike"),
    ],
)
def test_pins_that_a_mom_has_set_only_in_part_as_it_was_killed_are_put_back(
    root: Path, before: str, stands: str, after: str, status: Status
) -> None:
    hypervisor = FakeHypervisor([FakeGuest("vm", id="vm", pins=list(parse_pins(stands) or []))])
    entry = LedgerEntry(hypervisor.guests()[0].entity, "vcpu_pins", before, "0-3", "numa", 0.0, "1", in_doubt=True)
    context = PluginContext(name="numa", root=root, engine_state=lambda: EngineState(changes=[entry]))
    (outcome,) = put_entries_back(NumaPlugin(NumaPlugin.Settings(), context), [entry], hypervisor)
    assert (outcome.status, outcome.after) == (status, after)


# --- review --------------------------------------------------------------------------------------------------------------------

NODES: list[Value] = [
    {"node": 0, "total": 64 * GIB, "free": 0, "available": 10 * GIB, "cpus": "0-3"},
    {"node": 1, "total": 64 * GIB, "free": 0, "available": 40 * GIB, "cpus": "4-7"},
]
MEMORY: list[Value] = [{"node": 0, "size": 2 * GIB}, {"node": 1, "size": 6 * GIB}]
SEEN: dict[str, Value] = {"numa_memory": MEMORY, "numa_memory_age": 60.0}
USUAL: dict[str, Value] = {**SEEN, "balloon_cur": 8 * GIB, "numa_nodeset": "0-1", "vcpu_pins": "0-7"}


def review(control: str, value: Value, host: dict[str, Value] | None = None, **fields: Value) -> str:
    """Return the reason of a revised decision; empty if it stands."""
    snap = snapshot(host={"numa_nodes": NODES} if host is None else host, guests={"vm": {**USUAL, **fields}})
    guest: Guest = snap.guests["vm"]
    found = list(reviewed(snap, [Decision(guest.entity, control, value)], FakePromises("guest_guarantee")))
    return "" if not found else found[0].reason if found[0].after is None else f"now {found[0].after.value}"


def test_a_guest_is_bound_only_to_where_its_memory_fits_beside_the_reserve() -> None:
    assert review("numa_nodeset", "1") == ""
    assert review("numa_nodeset", "0") == "", "6 GiB more, of 10 less 3.2"
    assert "more than is available on node 0" in review("numa_nodeset", "0", balloon_cur=10 * GIB)
    assert "more than is available on node 0" in review("numa_nodeset", "0", guest_guarantee=10 * GIB), "what was promised counts"
    assert review("numa_nodeset", "0-1", numa_nodeset="0", balloon_cur=200 * GIB) == "", "wider is always allowed"
    assert "unknown" in review("numa_nodeset", "1", host={})
    assert "unknown" in review("numa_nodeset", "1", balloon_cur=None, numa_memory=None)


@pytest.mark.parametrize("age", [OLDEST_SECONDS + 1, None])
def test_where_a_guests_memory_was_long_ago_says_nothing_of_what_it_takes(age: float | None) -> None:
    assert "1.20 GiB more than is available on node 0" in review("numa_nodeset", "0", numa_memory_age=age)
    assert review("numa_nodeset", "1", numa_memory_age=age) == ""
    assert "unknown" not in review("numa_nodeset", "0", numa_memory_age=age, balloon_cur=None), "what it needs is known by it still"


def test_what_guests_bound_in_one_cycle_take_counts_for_those_after_them() -> None:
    there: dict[str, Value] = {**USUAL, "numa_memory": [{"node": 0, "size": 8 * GIB}]}
    guests = {"a": USUAL, "wide": {**USUAL, "numa_nodeset": "0"}, "b": USUAL, "there": there}
    snap = snapshot(host={"numa_nodes": NODES}, guests=guests)
    decisions = [Decision(snap.guests[name].entity, "numa_nodeset", "0") for name in guests]
    (revision,) = reviewed(snap, decisions, FakePromises("guest_guarantee"))
    assert (revision.before.entity.id, revision.after) == ("b", None), "it needs 6 GiB more, of which the first has left 0.8"
    assert "5.20 GiB more than is available on node 0" in revision.reason


@pytest.mark.parametrize(
    ("control", "value", "said"),
    [
        ("numa_nodeset", "0,1", "now 0-1"),
        ("numa_nodeset", "5", "there is no NUMA node 5"),
        ("numa_nodeset", "x", "'x' is not a list of nodes, such as 0 or 0-1"),
        ("vcpu_pins", "0-3", ""),
        ("vcpu_pins", "3,2,1,0", "now 0-3"),
        ("vcpu_pins", "99", "a list contains no online CPU; online are 0-7"),
        ("vcpu_pins", "", "'' is not a list of CPUs, such as 0-3 or 0-1;2-3"),
    ],
)
def test_nodes_and_pins_are_written_as_they_are_read_back(control: str, value: Value, said: str) -> None:
    assert review(control, value) == said
