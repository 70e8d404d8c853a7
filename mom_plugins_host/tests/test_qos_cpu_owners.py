"""Limits of a guest's CPU time from the YAML file, its metadata and policies: precedence, and values when they come and go in any order."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from qos_fake import NotingHypervisor
from qos_lives import Life

ORDERS = [("policy", "qos"), ("qos", "policy")]
NO_LIMIT, HALF = (-1, 100_000), (50_000, 100_000)
"""No limit, and a quarter of eight CPUs: half a CPU for each of four vCPUs."""


@pytest.fixture
def world() -> NotingHypervisor:
    made = NotingHypervisor()
    made.add("vm")
    return made


def quota(world: NotingHypervisor) -> tuple[int | None, int | None]:
    return world.known["vm"].cpu.quota_us, world.known["vm"].cpu.period_us


@pytest.mark.parametrize(("order", "stands"), [(ORDERS[0], (10_000, 20_000)), (ORDERS[1], HALF)])
def test_one_share_with_two_periods_is_the_first_ones_in_each_cycle_and_goes_away(
    tmp_path: Path, world: NotingHypervisor, order: Sequence[str], stands: tuple[int, int]
) -> None:
    life = Life(tmp_path, world, order, partial(quota, world), {"10_period": "(defvar cpu_limit_period 20000)"})
    assert life.goes_on(4, {"cpu_limit": "25%"}, cpu_limits=True) == [stands] * 4
    assert life.goes_on(3, cpu_limits=True)[-1] == NO_LIMIT
    assert life.problems == []
