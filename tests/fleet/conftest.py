"""A fleet for all tests of a file. Tests add hosts of their own, or leave the shared ones unchanged."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from fleet_world import FleetWorld, need_a_server


@pytest.fixture(autouse=True)
def connects_soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits of clients if servers refuse them or do not answer."""
    monkeypatch.setattr("mom_plugins_fleet.link.AGAIN_SECONDS", 0.1)
    monkeypatch.setattr("mom_plugins_fleet.link.ANSWER_SECONDS", 3.0)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetWorld]:
    need_a_server()
    with closing(FleetWorld(tmp_path_factory.mktemp("fleet"))) as world:
        yield world
