"""Tests of `wait_until`."""

import pytest

from mom_devkit import wait_until


def test_it_returns_the_first_true_value_or_explains() -> None:
    looks = iter([None, 0, "there", "later"])
    assert wait_until(lambda: next(looks)) == "there"
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: its log"):
        wait_until(lambda: False, lambda: "its log", 0.01)
    with pytest.raises(AssertionError, match="a sentence"):
        wait_until(lambda: False, "a sentence", 0.01)
