"""From which age on what is read again and again says nothing about now."""

import pytest

from mom_kvm import stale_seconds


@pytest.mark.parametrize(("period", "setting", "seconds"), [(0, None, 10), (1, None, 10), (5, None, 15), (60, None, 180), (60, 7.0, 7)])
def test_what_was_missed_twice_is_stale_unless_the_operator_says_otherwise(period: float, setting: float | None, seconds: float) -> None:
    assert stale_seconds(period, setting) == seconds
