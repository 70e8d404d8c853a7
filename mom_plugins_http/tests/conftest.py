"""A mom on a simulated host that serves a real unix socket, and clients for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served_mom import Serve, Served, serving

from mom_devkit import HandClock


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a mom with these settings of the plugin http."""
    with serving(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One with the usual settings, after two cycles, for all tests of a module that leave it as it is."""
    with serving(tmp_path_factory.mktemp("shared")) as start:
        yield start(cycles=2)


@pytest.fixture
def served(serve: Serve) -> Served:
    """One with the usual settings, after its first cycle."""
    return serve()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(100.0)
