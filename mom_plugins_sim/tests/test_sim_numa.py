"""A simulated host with several NUMA nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sim_guests import fields_of

from mom_core import NotSupported
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.numa import MOVE_RATE, cpu_text
from mom_plugins_sim.scene import ScenePlan
from mom_plugins_sim.world import CPUS, World
from mom_toolkit import CpuPinControl, NodeTuneControl

if TYPE_CHECKING:
    from conftest import Clock

GIB = 1 << 20
PLAN = ScenePlan(guests=6, host_memory=64 * GIB, sold=0.5, nodes=2)


@pytest.fixture
def hypervisor(clock: Clock) -> SimHypervisor:
    made = SimHypervisor(World(PLAN.scene()), clock)
    clock.now = 10.0
    return made


def sizes(value: object) -> list[int]:
    assert isinstance(value, list)
    return [item["size"] for item in value]


def test_every_guest_is_somewhere_and_the_nodes_add_up(hypervisor: SimHypervisor) -> None:
    guests = hypervisor.guests()
    found = fields_of(hypervisor, guests)
    on = [sizes(fields["numa_memory"]) for fields in found.values()]
    for guest in hypervisor.world.guests.values():
        assert guest.on is not None
        assert sum(guest.on.held) == pytest.approx(guest.memory.touched)
    host = hypervisor.host_fields()
    nodes = host["numa_nodes"]
    assert isinstance(nodes, list)
    used = [node["total"] - node["free"] for node in nodes]
    system = (hypervisor.world.host.base + hypervisor.world.host.other) / 2
    assert used == [pytest.approx(system + sum(one[node] for one in on), abs=10) for node in (0, 1)]
    assert [node["cpus"] for node in nodes] == ["0-15", "16-31"]
    assert nodes[0]["distances"] == [10, 21]


def test_a_guest_that_is_pinned_runs_there_and_takes_new_memory_there(hypervisor: SimHypervisor, clock: Clock) -> None:
    guest = hypervisor.guests()[0]
    for vcpu in range(2):
        hypervisor.set_cpu_pin(guest.entity, vcpu, set(range(16, 32)))
    clock.now += 600.0
    shares = fields_of(hypervisor, [guest])[guest.id]["numa_cpus"]
    assert isinstance(shares, list)
    assert [item["share"] for item in shares] == [pytest.approx(0.0, abs=0.01), pytest.approx(1.0, abs=0.01)]
    assert hypervisor.cpu_pins([guest.entity])[guest.id] == [frozenset(range(16, 32))] * 2


def test_memory_moves_to_where_it_is_allowed_at_a_finite_rate_and_remote_accesses_end(hypervisor: SimHypervisor, clock: Clock) -> None:
    guest = max(hypervisor.guests(), key=lambda one: hypervisor.world.guests[one.id].memory.touched)
    on = hypervisor.world.guests[guest.id].on
    assert on is not None
    target = on.held.index(min(on.held))
    elsewhere = sum(on.held) - on.held[target]
    assert elsewhere > 2 * MOVE_RATE
    hypervisor.set_node_tune(guest.entity, {target})
    for vcpu in range(2):
        hypervisor.set_cpu_pin(guest.entity, vcpu, hypervisor.world.nodes.cpus[target])  # type: ignore[union-attr]  # it has nodes
    clock.now += 1.0
    first = sizes(fields_of(hypervisor, [guest])[guest.id]["numa_memory"])
    assert 0 < first[1 - target] <= elsewhere - 0.9 * MOVE_RATE
    clock.now += 600.0
    fields = fields_of(hypervisor, [guest])[guest.id]
    assert sizes(fields["numa_memory"])[1 - target] == 0
    assert fields["numa_remote"] == pytest.approx(0.0, abs=0.01)
    waited = on.waited
    clock.now += 60.0
    hypervisor.guests()
    assert on.waited == waited


def test_remote_accesses_cost_work(clock: Clock) -> None:
    apart, together = (World(PLAN.scene()) for _ in range(2))
    for world, node in ((apart, 1), (together, 0)):
        assert world.nodes is not None
        for guest in world.guests.values():
            assert guest.on is not None
            guest.on.allowed = frozenset({0})
            for vcpu in range(2):
                world.nodes.pin(guest.on, vcpu, world.nodes.cpus[node])
        world.advance_to(300.0)
    lost = [sum(guest.memory.lost_seconds for guest in world.guests.values()) for world in (apart, together)]
    assert lost[0] > lost[1] + 60


def test_the_same_seed_gives_the_same_nodes_however_often_it_is_looked_at() -> None:
    once, often = World(PLAN.scene()), World(PLAN.scene())
    once.advance_to(200.0)
    for tenth in range(2001):
        often.advance_to(tenth / 10)
    held = [[guest.on.held for guest in world.guests.values() if guest.on] for world in (once, often)]
    assert held[0] == held[1]


def test_with_one_node_nothing_of_this_is_simulated(clock: Clock) -> None:
    hypervisor = SimHypervisor(World(ScenePlan(guests=2, host_memory=8 * GIB).scene()), clock)
    clock.now = 10.0
    assert isinstance(hypervisor, CpuPinControl)
    assert isinstance(hypervisor, NodeTuneControl)
    guest = hypervisor.guests()[0]
    assert not [name for name in hypervisor.host_fields() if name.startswith("numa")]
    assert not [name for name in fields_of(hypervisor, [guest])[guest.id] if name.startswith("numa")]
    assert hypervisor.cpu_pins([guest.entity])[guest.id] == [frozenset(range(CPUS))] * 2
    assert hypervisor.node_tunes([guest.entity])[guest.id].nodes == {0}
    with pytest.raises(NotSupported, match="one NUMA node"):
        hypervisor.set_cpu_pin(guest.entity, 0, {0})
    with pytest.raises(NotSupported):
        hypervisor.set_node_tune(guest.entity, {0})


def test_what_does_not_exist_is_refused(hypervisor: SimHypervisor) -> None:
    guest = hypervisor.guests()[0].entity
    for vcpu, cpus in ((2, {0}), (0, set()), (0, {32})):
        with pytest.raises(NotSupported):
            hypervisor.set_cpu_pin(guest, vcpu, cpus)
    for nodes in (set(), {2}):
        with pytest.raises(NotSupported):
            hypervisor.set_node_tune(guest, nodes)


def test_cpus_are_written_as_the_kernel_writes_them() -> None:
    assert [cpu_text(set(cpus)) for cpus in ([], [3], [0, 1, 2, 8], [1, 3])] == ["", "3", "0-2,8", "1,3"]
