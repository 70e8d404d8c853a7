"""Fixtures: a mom on a simulated host with a real unix socket, and clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served_mom import Serve, Served, serving

from mom_devkit import HandClock


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Yield a function that starts a mom with settings of the plugin http."""
    with serving(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield a mom with default settings, after two cycles, for tests of a module that do not change it."""
    with serving(tmp_path_factory.mktemp("shared")) as start:
        yield start(cycles=2)


@pytest.fixture
def served(serve: Serve) -> Served:
    """Return a mom with default settings, after its first cycle."""
    return serve()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(100.0)
