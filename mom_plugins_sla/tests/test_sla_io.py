"""Disks are limited to their guests' shares while they are busy, and have the agreed limits afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from one_guest_world import OneGuestWorld

from mom_core import DiskTune, Entity, HypervisorError, Value
from mom_devkit import FakeGuest
from mom_plugins_sla.classes import SlaSettings

AGREED = {"total_bytes_sec": 10_000_000, "total_iops_sec": 100}
FREE = {**dict.fromkeys(DiskTune.LIMITS, 0), **AGREED}
HALF = {**FREE, "total_bytes_sec": 5_000_000, "total_iops_sec": 50}
OTHER = {**FREE, "total_iops_sec": 7}


class World(OneGuestWorld):
    """Guest with one disk. Limiting it may be refused."""

    def __init__(self) -> None:
        super().__init__(FakeGuest("vm", "vm", disks=(DiskTune("vda", "/a", FREE, AGREED),), properties={"sla_class": "vapor"}))

    def set_io_tune(self, guest: Entity, disk: str, limits: Mapping[str, int]) -> None:
        if self.refuses:
            raise HypervisorError("not now")
        super().set_io_tune(guest, disk, limits)

    def limits_seen(
        self, folder: Path, cycles: int, change: Callable[[int], object], *, io_limits: bool = False
    ) -> list[Mapping[str, int]]:
        """Return the disk's limits after each cycle."""
        return self.seen(folder, cycles, change, lambda: self.guest_there.disks[0].current, SlaSettings(io=True), io_limits=io_limits)


@pytest.mark.parametrize("io_limits", [False, True])
def test_disks_that_are_held_to_a_share_have_all_again_when_there_is_room(tmp_path: Path, io_limits: bool) -> None:
    world = World()

    def change(number: int) -> None:
        world.waited = 50.0 if number < 3 else 5.0

    assert world.limits_seen(tmp_path, 4, change, io_limits=io_limits) == [HALF, HALF, FREE, FREE]


def test_disks_that_wait_less_because_they_are_held_stay_so(tmp_path: Path) -> None:
    world = World()

    def change(number: int) -> None:
        world.waited = [15.0, 25.0, 15.0, 11.0, 9.0, 15.0, 15.0][number - 1]

    assert world.limits_seen(tmp_path, 6, change) == [FREE, HALF, HALF, HALF, FREE, FREE]


@pytest.mark.parametrize("properties", [{"sla_class": "gold"}, {}])
def test_a_guest_that_is_held_to_no_share_any_more_gets_all_back_and_is_left_alone(tmp_path: Path, properties: dict[str, Value]) -> None:
    world = World()

    def change(number: int) -> None:
        if number == 2:
            world.guest_there.properties = properties
        world.refuses = number == 2
        if number == 5:  # once it is unlimited, others may set any limit
            world.guest_there.disks = (replace(world.guest_there.disks[0], current=OTHER),)

    assert world.limits_seen(tmp_path, 6, change) == [HALF, HALF, FREE, FREE, OTHER, OTHER]


@pytest.mark.parametrize("io_limits", [False, True])
@pytest.mark.parametrize("what", ["class", "pressure"])
def test_a_guest_stays_held_to_its_share_while_its_class_or_how_disks_are_is_not_told(tmp_path: Path, what: str, io_limits: bool) -> None:
    world = World()

    def change(number: int) -> None:
        unheard = number in {3, 4}
        world.classes_unheard = unheard and what == "class"
        world.waited = None if unheard and what == "pressure" else 50.0

    assert world.limits_seen(tmp_path, 5, change, io_limits=io_limits) == [HALF] * 5
