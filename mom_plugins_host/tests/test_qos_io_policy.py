"""Limits of disks in the YAML file beside those that were agreed: each disk is a matter of its own, whichever comes first."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from qos_fake import NotingHypervisor
from qos_lives import Life


@pytest.fixture
def world() -> NotingHypervisor:
    made = NotingHypervisor()
    made.add("vm")
    return made


def limits(world: NotingHypervisor) -> list[int | None]:
    """The operations a second that the guest's disks are limited to."""
    return [disk.current.get("total_iops_sec") for disk in world.known["vm"].disks]


@pytest.mark.parametrize("order", [("policy", "qos"), ("qos", "policy")])
def test_disks_that_the_file_does_not_name_are_as_a_policy_says(tmp_path: Path, world: NotingHypervisor, order: Sequence[str]) -> None:
    """Also if the policy decides nothing while the limit is in force."""
    tell = "(if (== disk.current.total_iops_sec 100) nil (disk.setTotalIopsSec 100))"
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
