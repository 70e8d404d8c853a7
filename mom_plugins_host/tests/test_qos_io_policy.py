"""Limits of disks in the YAML file beside those that were agreed: each disk is a matter of its own, whichever comes first."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from qos_fake import NONE, NotingHypervisor
from qos_lives import Life

from mom_core import DiskTune


@pytest.fixture
def world() -> NotingHypervisor:
    made = NotingHypervisor()
    made.add("vm")
    return made


def limits(world: NotingHypervisor) -> list[int | None]:
    """The operations a second that the guest's disks are limited to."""
    return [disk.current.get("total_iops_sec") for disk in world.known["vm"].disks]


@pytest.mark.parametrize("order", [("policy", "qos"), ("qos", "policy")])
def test_a_disk_that_the_file_limits_leaves_others_what_was_agreed_for_them(
    tmp_path: Path, world: NotingHypervisor, order: Sequence[str]
) -> None:
    world.known["vm"].disks = (DiskTune("vda", "/a", NONE, {"total_iops_sec": 100}), DiskTune("vdb", "/b", NONE))
    life = Life(tmp_path, world, order, partial(limits, world))
    assert life.goes_on(4, {"disk_limits": {"vdb": {"total_iops_sec": 7}}}, io_limits=True) == [[100, 7]] * 4
    assert life.problems == []


@pytest.mark.parametrize("order", [("policy", "qos"), ("qos", "policy")])
@pytest.mark.parametrize("silent", [False, True])
def test_disks_that_the_file_does_not_name_are_as_a_policy_of_the_operators_says(
    tmp_path: Path, world: NotingHypervisor, order: Sequence[str], silent: bool
) -> None:
    """Also one that is silent while that stands."""
    tell = "(disk.setTotalIopsSec 100)"
    tell = f"(if (== disk.current.total_iops_sec 100) nil {tell})" if silent else tell
    text = f'(with Guests guest (with guest.io_tune disk (if (== disk.name "vda") {tell} nil)))'
    life = Life(tmp_path, world, order, partial(limits, world), {"60_mine": text})
    assert life.goes_on(4, {"disk_limits": {"vdb": {"total_iops_sec": 7}}}) == [[100, 7]] * 4
    assert life.problems == []
    assert life.goes_on(3) == [[100, 0]] * 3
    assert life.ends() == [0, 0]


@pytest.mark.parametrize("order", [("policy", "qos"), ("qos", "policy")])
def test_what_a_policy_wants_in_vain_of_one_disk_costs_the_others_none_of_their_limits(
    tmp_path: Path, world: NotingHypervisor, order: Sequence[str]
) -> None:
    text = '(with Guests guest (with guest.io_tune disk (if (== disk.name "vda") (disk.setTotalIopsSec -5) nil)))'
    life = Life(tmp_path, world, order, partial(limits, world), {"60_mine": text})
    assert life.goes_on(3, {"disk_limits": {"vdb": {"total_iops_sec": 7}}}) == [[0, 7]] * 3


@pytest.mark.parametrize("order", [("policy", "qos"), ("qos", "policy")])
def test_a_disk_in_whose_place_the_file_names_one_that_is_not_there_is_as_it_was(
    tmp_path: Path, world: NotingHypervisor, order: Sequence[str]
) -> None:
    life = Life(tmp_path, world, order, partial(limits, world))
    assert life.goes_on(2, {"disk_limits": {"vdb": {"total_iops_sec": 7}}})[-1] == [0, 7]
    assert life.goes_on(2, {"disk_limits": {"vdz": {"total_iops_sec": 7}}})[-1] == [0, 0]


@pytest.mark.parametrize("order", [("policy", "qos"), ("qos", "policy")])
def test_a_disk_for_which_nothing_is_agreed_any_more_is_as_it_was(tmp_path: Path, world: NotingHypervisor, order: Sequence[str]) -> None:
    one = world.known["vm"]
    agreed = {"total_iops_sec": 100}
    one.disks = (DiskTune("vda", "/a", {**NONE, "total_iops_sec": 500}, agreed), DiskTune("vdb", "/b", NONE, agreed))
    life = Life(tmp_path, world, order, partial(limits, world))
    assert life.goes_on(2, io_limits=True)[-1] == [100, 100]
    one.disks = (replace(one.disks[0], maximum=None), one.disks[1])
    assert life.goes_on(2, io_limits=True)[-1] == [500, 100]
    assert life.goes_on(2, io_limits=False)[-1] == [500, 0], "the policy is switched off"
