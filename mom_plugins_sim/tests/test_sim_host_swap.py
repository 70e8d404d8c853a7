"""Simulated guests in the host's swap: order of swapping, swap-in, and cost."""

import pytest
from sim_guests import fields_of

from mom_core import NotSupported
from mom_kvm import SwapStore
from mom_plugins_sim.guest import MIB
from mom_plugins_sim.host import IDLE_SHARE, Held, SwappedGuest, swap_out
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.scene import GuestScene, Scene
from mom_plugins_sim.workload import HostLoad, Workload, bursty, constant
from mom_plugins_sim.world import World

GIB = 1024 * MIB
HELD = Held(free=100 * MIB, cold=500 * MIB, hot=200 * MIB)


def of_levels(swapped):
    return [round(kib / MIB) for kib in swapped.levels]


def idle_of(memory):
    """Return the rarely used memory of a guest's kernel and QEMU."""
    return IDLE_SHARE * (memory.kernel + memory.traits.qemu_overhead)


def test_coldest_memory_is_swapped_first():
    swapped = SwappedGuest()
    assert swap_out([(HELD, swapped)], 100 * MIB) == 100 * MIB
    assert of_levels(swapped) == [95, 0, 5]
    swap_out([(HELD, swapped)], 200 * MIB)
    assert of_levels(swapped) == [100, 185, 15]
    assert swap_out([(HELD, swapped)], 4 * GIB) == pytest.approx(500 * MIB), "there is no more"
    assert of_levels(swapped) == [100, 500, 200]


def a_world(seconds=5, *, cold=500 * MIB, memory=4 * GIB, zram=2.0 * GIB, guests=2, load=0.0, warms=None, burst=0.0, swap=0.0):
    """Return a world after some seconds."""
    demand = bursty(600 * MIB, burst, 60, 0.5, 30) if burst else constant(600 * MIB)
    workload = Workload(demand, cold=cold, warms=warms)
    scenes = [GuestScene(f"u{n}", f"g{n}", GIB, workload, statistics_period=1.0) for n in range(guests)]
    loads = [HostLoad(load, 10, 1e6, 50 * MIB)]
    return pass_time(World(Scene(memory, scenes, host_zram=zram, host_swap=swap, loads=loads, base=512 * MIB)), seconds)


def pass_time(world, seconds):
    for _ in range(seconds):
        world.step(1.0)
    return world


def offload(world, mib):
    """Offload this much memory of each guest."""
    for identity in world.guests:
        world.offload(identity, mib * MIB, 10.0)


def lost(world):
    return sum(guest.memory.lost_seconds for guest in world.guests.values())


def test_cold_memory_in_swap_is_cheap():
    world = a_world()
    offload(world, 400)
    assert world.host.swapped == 800 * MIB
    before = lost(world)
    pass_time(world, 60)
    faults = sum(guest.swapped.faults for guest in world.guests.values())
    assert 0 < faults < 60 * 200 * 2 + 2 * 0.05 * 400 * MIB / 4 + 1, "200 pages a second, and what was taken by mistake"
    assert lost(world) - before < 0.01 * 120
    assert world.host.swapped == sum(guest.swapped.total for guest in world.guests.values())


def test_warmed_memory_swaps_in_quickly():
    world = a_world(warms=30.0)
    offload(world, 500)
    pass_time(world, 25)
    there = world.host.swapped
    pass_time(world, 30)
    assert there > 850 * MIB
    swapped = [guest.swapped for guest in world.guests.values()]
    assert sum(one.free + one.hot for one in swapped) < 0.15 * there
    assert sum(one.cold for one in swapped) <= sum(idle_of(guest.memory) for guest in world.guests.values()), "no program uses that"


def test_ballooned_memory_leaves_swap():
    world = a_world(95, cold=0.0, burst=300 * MIB)
    world.offload("u0", 200 * MIB, 10.0)
    guest = world.guests["u0"]
    away = guest.swapped.free
    world.resize("u0", int(guest.memory.size - 700 * MIB))
    pass_time(world, 3)
    assert guest.swapped.free < 0.5 * away


@pytest.fixture
def hypervisor(clock):
    clock.now = 0.0
    return SimHypervisor(a_world(0), clock)


def test_offload_shows_in_fields(hypervisor, clock):
    clock.now = 5.0
    guest = hypervisor.guests()[0]
    before = fields_of(hypervisor, [guest])[guest.id]
    assert before["host_swap"] == before["host_major_faults"] == 0
    done = hypervisor.offload_memory(guest.entity, 300 * MIB, 10.0)
    assert (done.kib, done.why) == (300 * MIB, "")
    fields = fields_of(hypervisor, [guest])[guest.id]
    assert fields["host_swap"] == pytest.approx(300 * MIB, abs=1)
    assert fields["rss"] == pytest.approx(before["rss"] - 300 * MIB, abs=2)
    (store,) = hypervisor.swap_stores()
    assert (store.kind, store.size_kib, store.held_kib) == (SwapStore.Kind.ZRAM, 2 * GIB, 300 * MIB)
    assert store.takes_kib == pytest.approx(60 * MIB, abs=1)
    assert hypervisor.host_fields()["swap_usage"] == 300 * MIB
    clock.now = 15.0
    assert fields_of(hypervisor, [guest])[guest.id]["host_major_faults"] > 0


def test_offload_is_bounded_by_time_and_memory(hypervisor):
    guest = hypervisor.guests()[0]
    short = hypervisor.offload_memory(guest.entity, 300 * MIB, 0.1)
    assert short.kib == 85 * MIB
    assert short.why == "the time limit was reached"
    done = hypervisor.offload_memory(guest.entity, 8 * GIB, 100.0)
    assert done.kib < GIB
    assert "no more" in done.why


def test_a_host_without_swap_has_no_store_and_moves_nothing(clock):
    hypervisor = SimHypervisor(a_world(0, zram=0.0), clock)
    assert hypervisor.swap_stores() == []
    with pytest.raises(NotSupported, match="no swap"):
        hypervisor.offload_memory(hypervisor.guests()[0].entity, 1024, 1.0)


def test_order_of_sweep_and_offload_does_not_matter():
    def after(*acts):
        world = a_world(70, burst=300 * MIB, zram=2.0 * GIB)
        for act in acts:
            act(world)
        pass_time(world, 5)
        guest = world.guests["u0"]
        return guest.memory.touched, guest.swapped.levels, world.host.swapped, world.host.available

    def sweep(world):
        assert world.sweep("u0", 0.0) > 250 * MIB
        assert world.sweep("u0", 0.0) == 0.0, "it has that already"

    def move(world):
        world.offload("u0", 400 * MIB, 10.0)

    assert after(sweep, move) == after(move, sweep)
    assert after(sweep, move) != after(move)


def test_host_programs_swap_after_the_guests():
    world = a_world(300, cold=0.0, zram=0.0, swap=8.0 * GIB, load=4.0 * GIB)
    host = world.host
    assert host.short == pytest.approx(0.0, abs=1.0), "all that does not fit is in swap"
    assert host.swapped > sum(guest.swapped.total for guest in world.guests.values()) + 100 * MIB
    out = host.swap_out
    pass_time(world, 10)
    assert host.swap_out - out < 10 * 1.01 * host.swap.in_rate, "only what makes room for what comes back"
