"""Guests have the CPU weights of their classes while they have classes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from one_guest_world import OneGuestWorld

from mom_core import CpuTune, Entity, HypervisorError, Value
from mom_devkit import FakeGuest
from mom_plugins_sla.classes import SlaSettings

OWN = 300
VAPOR, GOLD = 50, 200


class World(OneGuestWorld):
    """Guest of the class vapor, with its own weight."""

    def __init__(self, weight: int = OWN) -> None:
        super().__init__(FakeGuest("vm", "vm", cpu=CpuTune(-1, 100_000, weight), properties={"sla_class": "vapor"}))

    def set_cpu_tune(self, guest: Entity, quota_us: int | None = None, period_us: int | None = None, shares: int | None = None) -> None:
        if self.refuses:
            raise HypervisorError("not now")
        super().set_cpu_tune(guest, quota_us, period_us, shares)

    def weights_seen(
        self, folder: Path, cycles: int, change: Callable[[int], object], order: Sequence[str] = ("sla", "qos", "policy"), **own: Value
    ) -> list[int | None]:
        """Return the guest's weight after each cycle."""
        return self.seen(folder, cycles, change, lambda: self.guest_there.cpu.shares, SlaSettings(cpu=True), order=order, own=own)


def test_a_guest_that_has_no_class_any_more_gets_back_what_it_had_and_is_left_alone(tmp_path: Path) -> None:
    world = World()

    def change(number: int) -> None:
        if number == 2:
            world.guest_there.properties = {"sla_class": "gold"}
        if number == 3:
            world.guest_there.properties = {}
        if number == 5:
            world.guest_there.cpu = replace(world.guest_there.cpu, shares=777)

    assert world.weights_seen(tmp_path, 6, change) == [VAPOR, GOLD, OWN, OWN, 777, 777]


def test_the_weight_stays_while_the_class_is_not_told(tmp_path: Path) -> None:
    world = World()

    def change(number: int) -> None:
        world.classes_unheard = number in {2, 3}

    assert world.weights_seen(tmp_path, 4, change) == [VAPOR] * 4


@pytest.mark.parametrize(("order", "weight"), [(("sla", "policy", "qos"), VAPOR), (("sla", "qos", "policy"), 512)])
def test_where_the_file_says_another_weight_the_plugin_that_comes_first_has_it_in_each_cycle(
    tmp_path: Path, order: Sequence[str], weight: int
) -> None:
    assert World().weights_seen(tmp_path, 4, lambda number: None, order, cpu_shares=512) == [weight] * 4
