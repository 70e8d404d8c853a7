"""The simulated world, also as a hypervisor."""

import pytest
from sim_guests import fields_of, usual_world

from mom_core import Entity, GuestGone, NotSupported, Scope
from mom_plugins_sim.fields import FIELDS
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.world import LONGEST_JUMP

GIB = 1 << 20


@pytest.fixture
def clock(clock):
    clock.now = 1000.0
    return clock


@pytest.fixture
def hypervisor(clock):
    return SimHypervisor(usual_world(20, 32, clock(), swap_gib=8), clock)


def what_is_seen(hypervisor):
    return hypervisor.host_fields(), fields_of(hypervisor, hypervisor.guests())


def test_world_depends_on_the_seed_only(clock):
    often = SimHypervisor(usual_world(20, 32, clock(), swap_gib=8), clock)
    for _ in range(300):
        clock.now += 0.37
        often.balloon_sizes([])
    once = SimHypervisor(usual_world(20, 32, 1000.0, swap_gib=8), clock)
    assert what_is_seen(once) == what_is_seen(often)


def test_long_break_is_cut_short(hypervisor, clock):
    clock.now += 1e6
    hypervisor.guests()
    assert hypervisor.world.time == LONGEST_JUMP


def test_balloon_follows_at_its_rate(hypervisor, clock):
    guest = hypervisor.guests()[0].entity
    size = hypervisor.balloon_sizes([guest])[guest.id]
    hypervisor.set_balloon(guest, size - 100 * 1024)
    assert hypervisor.balloon_sizes([guest]) == {guest.id: size}
    clock.now += 1
    assert hypervisor.balloon_sizes([guest]) == {guest.id: size - 100 * 1024}


def test_what_cannot_be_is_refused(clock):
    hypervisor = SimHypervisor(usual_world(4, 8, clock(), rigid=0.25), clock)
    switches = [
        (one.get("balloon_reporting"), one.get("balloon_autodeflate")) for one in fields_of(hypervisor, hypervisor.guests()).values()
    ]
    assert sorted(switches, key=str) == [(0, 0), (0, 0), (0, 0), (None, None)]
    rigid = [guest for guest in hypervisor.guests() if guest.blocked]
    assert len(rigid) == 1
    with pytest.raises(NotSupported):
        hypervisor.set_balloon(rigid[0].entity, 100_000)
    supple = next(guest for guest in hypervisor.guests() if not guest.blocked)
    with pytest.raises(NotSupported):
        hypervisor.set_balloon(supple.entity, 1 << 50)
    nobody = Entity(Scope.GUEST, "nobody", "nobody")
    with pytest.raises(GuestGone):
        hypervisor.set_balloon(nobody, 100_000)
    assert hypervisor.balloon_sizes([nobody]) == {}


def test_silent_drivers_are_blocked(clock):
    hypervisor = SimHypervisor(usual_world(4, 8, clock(), silent=0.25), clock)

    def obstacles():
        return [why for guest in hypervisor.guests() if (why := guest.why_blocked("balloon_target"))]

    clock.now += 60
    assert obstacles() == []
    clock.now += 2
    assert obstacles() == ["the guest's balloon driver has never answered"]
    for mute, later, silent in ((True, 40, 1), (True, 20, 4), (False, 6, 1)):
        for guest in hypervisor.world.guests.values():
            guest.mute = mute
        clock.now += later
        assert len(obstacles()) == silent


def test_declared_fields_are_the_collected_ones(clock):
    hypervisor = SimHypervisor(usual_world(20, 32, clock(), swap_gib=8), clock)
    declared = {scope: {spec.name for spec in FIELDS if spec.scope is scope} for scope in Scope}
    hypervisor.host_fields()
    for _ in range(20):
        clock.now += 5
        host, guests = what_is_seen(hypervisor)
    assert host.keys() == declared[Scope.HOST]
    assert set().union(*guests.values()) == declared[Scope.GUEST]
