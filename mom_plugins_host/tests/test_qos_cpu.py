"""Quota and period from a limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mom_plugins_host.qos.settings import PERIOD_US, QUOTA_US, quota_and_period


@pytest.mark.parametrize(
    ("percent", "host_cpus", "vcpus", "expected"),
    [
        (50, 120, 100, (60_000, 100_000)),
        (50, 8, 16, (25_000, 100_000)),
        (10, 1, 100, (1000, 1_000_000)),  # a longer period instead of a too small quota, within its maximum
        (0.001, 1, 100, (1000, 1_000_000)),  # the minimum
        (50, 8, 4, (-1, 100_000)),  # it cannot use more
        (100, 1, 4, (-1, 100_000)),
    ],
)
def test_each_vcpu_gets_its_part(percent: float, host_cpus: int, vcpus: int, expected: tuple[int, int]) -> None:
    assert quota_and_period(percent, host_cpus, vcpus) == expected


@given(st.floats(1e-6, 100), st.integers(1, 8192), st.integers(1, 8192))
def test_whatever_the_limit_the_hypervisor_takes_it_and_it_is_kept(percent: float, host_cpus: int, vcpus: int) -> None:
    quota, period = quota_and_period(percent, host_cpus, vcpus)
    assert PERIOD_US[0] <= period <= PERIOD_US[1]
    assert quota == -1 or QUOTA_US[0] <= quota <= QUOTA_US[1]
    share = percent / 100 * host_cpus / vcpus
    if quota != -1 and share >= 0.001:
        assert quota / period == pytest.approx(share, rel=0.002)
