"""A clock that tests of the simulated host set."""

import pytest

from mom_devkit import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
