"""Clock for tests of the simulated host."""

import pytest

from mom_devkit import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
