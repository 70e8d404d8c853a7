"""Limits of guests' growth (`memory.high`) on the simulated host."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mom_core import GuestGone
from mom_devkit import HandClock
from mom_plugins_sim.guest import GROWTH_RATE, MIB
from mom_plugins_sim.hypervisor import SimHypervisor
from mom_plugins_sim.scene import GuestScene, Scene
from mom_plugins_sim.simulate.command import simulate
from mom_plugins_sim.workload import Workload, bursty
from mom_plugins_sim.world import SimulatedGuest, World

GIB = 1024 * MIB


@pytest.fixture
def hypervisor(clock: HandClock) -> SimHypervisor:
    """Return a hypervisor with a guest that grows by 500 MiB from 10 s on."""
    scene = GuestScene("u1", "a", GIB, Workload(bursty(100 * MIB, 500 * MIB, 1000, 0.5, 990)))
    return SimHypervisor(World(Scene(4 * GIB, [scene], base=0.0), clock()), clock)


def limited(hypervisor: SimHypervisor, clock: HandClock, kib: int) -> SimulatedGuest:
    """Start the guest's burst with this limit of growth."""
    assert hypervisor.limit_growth({"u1": hypervisor.held_kib(["u1"])["u1"] + kib}) == {}
    clock.now += 20
    hypervisor.guests()
    return hypervisor.world.guests["u1"]


def test_a_guest_at_its_limit_does_not_grow_and_loses_work_but_no_program(hypervisor: SimHypervisor, clock: HandClock) -> None:
    before = hypervisor.held_kib(["u1"])["u1"]
    guest = limited(hypervisor, clock, 64 * MIB)
    assert guest.held - before == pytest.approx(64 * MIB, abs=1)
    assert guest.memory.lost_seconds == pytest.approx(10 - 64 * MIB / GROWTH_RATE, abs=0.5)
    assert guest.memory.killed == 0


def test_a_raised_limit_lets_a_guest_grow(hypervisor: SimHypervisor, clock: HandClock) -> None:
    guest = limited(hypervisor, clock, 64 * MIB)
    hypervisor.limit_growth({"u1": None})
    lost, clock.now = guest.memory.lost_seconds, clock.now + 5
    hypervisor.guests()
    assert guest.memory.anon == 600 * MIB
    assert guest.memory.lost_seconds == lost


def test_limits_of_guests_that_are_gone_fail(hypervisor: SimHypervisor) -> None:
    assert isinstance(hypervisor.limit_growth({"u1": 5, "u2": 5})["u2"], GuestGone)


CROWDED = """
title: Bursts that do not fit
lasts: 4m
host: {memory: 3GiB}
guests:
  a:
    {count: 6, memory: 1GiB, workload: {bursty: {base: 10%, burst: 45%, period: 1m, duty: 30%, phase: 30s}}, files: 2%,
     balloon: {reporting: true, autodeflate: true}}
"""


@pytest.mark.long
def test_guests_on_credit_do_not_exhaust_the_host(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(CROWDED)
    shown = CliRunner().invoke(simulate, [str(path), "--compare", "defaults", "credit", "--json"])
    assert shown.exit_code == 0, shown.output
    defaults, credit = json.loads(shown.stdout)
    assert defaults["least_available_kib"] == 0
    assert credit["least_available_kib"] > 32 * MIB, "a little less than the low watermark of 46 MiB"
    assert defaults["pressed_seconds"] > credit["pressed_seconds"] == 0
    assert credit["killed"] == 0
