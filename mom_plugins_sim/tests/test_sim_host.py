"""The simulated host's own memory."""

import pytest

from mom_plugins_sim.guest import MIB
from mom_plugins_sim.host import SimulatedHostMemory
from mom_plugins_sim.host_swap import disk

GIB = 1024 * MIB


def a_host(**known):
    usual = {"total": 32.0 * GIB, "swap": disk(8.0 * GIB), "base": 1.0 * GIB, "reserve": 256.0 * MIB, "cache": 2.0 * GIB, "loads": ()}
    return SimulatedHostMemory(**usual | known)  # type: ignore[arg-type]  # each is of its own type


TOUCHED_SHARE = 0.3
"""Of what is swapped, what guests want back in each second."""


def run(host, seconds, guests):
    for second in range(seconds):
        host.step(guests, float(second), 1.0, TOUCHED_SHARE * host.swapped)
    return host


def test_what_guests_do_not_hold_is_available():
    host = run(a_host(), 10, 20 * GIB)
    assert host.available == 11 * GIB - 256 * MIB
    assert host.unused == host.reserve + host.available - host.cache
    assert host.swapped == 0
    assert host.stall == 0


def test_a_host_without_enough_memory_swaps_and_waits():
    host = run(a_host(), 60, 34 * GIB)
    assert host.available == pytest.approx(0, abs=1)
    assert host.swapped == pytest.approx(3 * GIB + 256 * MIB)
    assert host.swap_in > 0, "what is touched comes back although there is no room"
    assert host.some[10] > 20
    assert host.some_total_us > 1e6


def test_pressure_rises_and_falls_at_the_speed_of_its_window():
    host = run(a_host(), 30, 36 * GIB)
    assert host.some[10] > host.some[60] > host.some[300] > 0
    run(host, 600, 10 * GIB)
    assert host.some[10] < host.some[60] < host.some[300]
    assert host.swapped < GIB
