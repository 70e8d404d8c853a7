"""Simulated guests that are paused, saved, shut down and started."""

import pytest
from sim_guests import usual_world

from mom_core import GuestGone
from mom_devkit import HandClock
from mom_kvm import GuestState
from mom_plugins_sim.hypervisor import SimHypervisor


@pytest.fixture
def host(clock: HandClock) -> SimHypervisor:
    return SimHypervisor(usual_world(3, 8), clock)


def test_paused_guest_keeps_memory_and_is_blocked(host: SimHypervisor, clock: HandClock) -> None:
    guest = host.guests()[0].entity
    host.pause(guest)
    memory = host.world.guests[guest.id].memory
    before, anon = memory.lost_seconds, memory.anon
    clock.now = 30
    assert host.guests()[0].blocked["*"] == "the guest is paused"
    assert (memory.lost_seconds - before, memory.anon) == (30, anon)
    assert host.standings([guest]) == {guest.id: GuestState.PAUSED}
    host.resume(guest)
    assert "*" not in host.guests()[0].blocked


def test_saved_guest_frees_host_memory_and_resumes(host: SimHypervisor, clock: HandClock) -> None:
    guest = host.guests()[0].entity
    clock.now = 5
    host.guests()
    held, before = host.world.host.guests, host.world.guests[guest.id].memory
    incarnation = host.guests()[0].incarnation
    host.save(guest, 1.0)
    clock.now = 10
    assert guest.id not in {one.id for one in host.guests()}
    assert host.world.host.guests < held
    assert host.standings([guest]) == {guest.id: GuestState.SAVED}
    with pytest.raises(GuestGone):
        host.pause(guest)
    host.start(guest, 1.0)
    host.guests()
    assert host.world.guests[guest.id].memory is before
    assert next(one for one in host.guests() if one.id == guest.id).incarnation != incarnation


def test_a_guest_that_was_shut_down_boots(host: SimHypervisor, clock: HandClock) -> None:
    guest = host.guests()[0].entity
    before = host.world.guests[guest.id].memory
    host.shut_down(guest)
    assert host.standings([guest]) == {guest.id: GuestState.OFF}
    lost = host.world.lost_seconds
    clock.now = 10
    host.guests()
    assert host.world.lost_seconds == lost + 10
    host.start(guest, 1.0)
    host.guests()
    assert host.world.guests[guest.id].memory is not before
    with pytest.raises(GuestGone):
        host.start(guest, 1.0)


def test_state_changes_take_effect_after_the_cycle(host: SimHypervisor) -> None:
    guest = host.guests()[0].entity
    for do, is_there in ((host.shut_down, True), (lambda one: host.start(one, 1.0), False), (lambda one: host.save(one, 1.0), True)):
        before = host.ksm_read()["shareable_kib"]
        do(guest)
        assert (host.ksm_read()["shareable_kib"], guest.id in host.balloon_sizes([guest])) == (before, is_there)
        host.guests()
        assert (guest.id in host.balloon_sizes([guest])) is not is_there
