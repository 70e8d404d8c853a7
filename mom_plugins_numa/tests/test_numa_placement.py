"""The placement policy, with plain numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_numa.placement import MOVE_SECONDS, PAGE_KIB, MovableGuest, NodeRoom, Rules, fits, reserve_of, steps, waiting, weigh

GIB = 1 << 20
RULES = Rules()
BOTH = frozenset({0, 1})


def room(node: int, available: float = 32 * GIB, busy: float = 0.0, cpus: int = 16, total: float = 64 * GIB) -> NodeRoom:
    distances = {other: 10 if other == node else 21 for other in range(4)}
    return NodeRoom(node, total, available, frozenset(range(node * cpus, (node + 1) * cpus)), busy, distances)


def place(memory: dict[int, float], cpus: dict[int, float], busy: float = 1.0, vcpus: int = 2, guest: str = "g") -> MovableGuest:
    return MovableGuest(guest, memory, sum(memory.values()), vcpus, cpus, busy, BOTH)


APART = place({0: 4.0 * GIB, 1: 0.0}, {1: 1.0})
"""Its memory is on one node, its CPUs are on the other."""


def test_a_guest_whose_memory_is_elsewhere_waits_for_it_about_as_long_as_was_measured_on_real_servers() -> None:
    rooms = {0: room(0), 1: room(1)}
    assert 0.10 < waiting(APART, rooms, APART.cpus, APART.memory) < 0.30
    assert waiting(APART, rooms, {0: 1.0}, APART.memory) == 0.0


def test_vcpus_go_to_the_memory_where_that_costs_less() -> None:
    (step,) = steps([APART], [room(0), room(1)], RULES)
    assert (step.node, step.moves_kib, step.cost) == (0, 0.0, 0.0)


def test_memory_goes_to_the_other_node_where_there_is_no_room_for_the_cpus() -> None:
    (step,) = steps([APART], [room(0, busy=11.0), room(1, busy=1.0)], RULES)
    assert (step.node, step.moves_kib) == (1, 4 * GIB)
    assert step.cost == 4 * GIB / PAGE_KIB * MOVE_SECONDS
    assert step.gain * RULES.lasts > step.cost


def test_what_costs_more_than_it_gains_is_left_alone() -> None:
    large = place({0: 400.0 * GIB, 1: 0.0}, {1: 1.0})
    rooms = [room(0, busy=11.0), room(1, busy=1.0, available=900 * GIB, total=1000 * GIB)]
    assert steps([large], rooms, RULES) == []
    assert steps([large], rooms, replace(RULES, lasts=6 * 3600)) != []


def test_an_idle_guest_is_left_alone() -> None:
    assert steps([replace(APART, busy=0.05)], [room(0), room(1)], RULES) == []


@pytest.mark.parametrize(
    ("changed", "there", "reason"),
    [
        ({"nodes": frozenset({1})}, room(0), "may not come from there"),
        ({"vcpus": 17}, room(0), "17 vCPUs, and the node 16 CPUs"),
        ({"size": 40.0 * GIB}, room(0), "too little memory"),
        ({}, room(0, available=3.0 * GIB, busy=0.0), ""),
        ({"size": 5.0 * GIB}, room(0, available=4.0 * GIB), "too little memory"),
        ({"busy": 2.0}, room(0, busy=9.5), "too busy"),
    ],
)
def test_a_guest_fits_only_where_there_is_room_for_all_of_it(changed: dict[str, object], there: NodeRoom, reason: str) -> None:
    guest = replace(APART, memory={0: 4.0 * GIB}, **changed)  # type: ignore[arg-type]  # one field each
    found = fits(guest, there, RULES)
    assert found == "" if not reason else reason in found


def test_the_reserve_is_what_the_operator_says_or_a_twentieth() -> None:
    assert reserve_of(64 * GIB, RULES) == 0.05 * 64 * GIB
    assert reserve_of(4 * GIB, RULES) == GIB / 2
    assert reserve_of(4 * GIB, Rules(reserve_kib=7)) == 7


# --- for any numbers -----------------------------------------------------------------------------------------------------------

sizes = st.floats(0, 256 * GIB)
ratios = st.floats(0, 1)


@st.composite
def hosts(draw: st.DrawFn) -> tuple[list[MovableGuest], list[NodeRoom]]:
    count = draw(st.integers(1, 4))
    rooms = [room(node, draw(st.floats(0, 64 * GIB)), draw(st.floats(0, 16)), draw(st.integers(0, 16))) for node in range(count)]
    places = []
    for index in range(draw(st.integers(0, 5))):
        memory = {node: draw(sizes) for node in range(count)}
        cpus = {node: draw(ratios) for node in range(count)}
        vcpus = draw(st.integers(1, 16))
        nodes = frozenset(draw(st.sets(st.integers(0, count - 1))))
        places.append(MovableGuest(f"g{index}", memory, draw(sizes), vcpus, cpus, draw(st.floats(0, vcpus)), nodes))
    return places, rooms


@given(hosts())
def test_no_move_ever_takes_the_reserve_or_cpus_that_are_not_there(host: tuple[list[MovableGuest], list[NodeRoom]]) -> None:
    places, rooms = host
    by_name, by_node = {one.guest: one for one in places}, {one.node: one for one in rooms}
    for step in steps(places, rooms, RULES):
        guest, target = by_name[step.guest], by_node[step.node]
        assert step.node in guest.nodes
        assert guest.vcpus <= len(target.cpus)
        if guest.needs(step.node) > 0:
            assert target.available - guest.needs(step.node) >= reserve_of(target.total, RULES)
        assert step.moves_kib <= guest.needs(step.node)
        assert step.moves_kib == guest.elsewhere(step.node)


@given(hosts())
def test_every_move_repays_its_cost_and_is_noticed(host: tuple[list[MovableGuest], list[NodeRoom]]) -> None:
    for step in steps(*host, RULES):
        assert step.gain * RULES.lasts >= RULES.payback * step.cost
        assert step.gain >= RULES.least_gain


@given(hosts())
def test_a_guest_that_was_moved_is_not_moved_again(host: tuple[list[MovableGuest], list[NodeRoom]]) -> None:
    places, rooms = host
    found = steps(places, rooms, RULES)
    if not found:
        return
    step = found[0]
    guest = next(one for one in places if one.guest == step.guest)
    total = sum(guest.memory.values())
    moved = replace(guest, memory={step.node: total}, cpus={step.node: 1.0})
    by_node = {
        one.node: replace(
            one, available=one.available - step.moves_kib if one.node == step.node else one.available + guest.memory[one.node]
        )
        for one in rooms
    }
    assert all(weigh(moved, one, by_node, RULES) is None for one in by_node.values())


@given(hosts())
def test_the_order_of_guests_and_nodes_makes_no_difference(host: tuple[list[MovableGuest], list[NodeRoom]]) -> None:
    places, rooms = host
    assert steps(places, rooms, RULES) == steps(places[::-1], rooms[::-1], RULES)


@given(hosts())
def test_with_one_node_there_is_nothing_to_decide(host: tuple[list[MovableGuest], list[NodeRoom]]) -> None:
    places, rooms = host
    assert steps(places, rooms[:1], RULES) == []
