"""A fleet for the tests of a file; those of one host use hosts of their own, or leave those as they were."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from fleet_world import FleetWorld, need_a_server


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetWorld]:
    need_a_server()
    with closing(FleetWorld(tmp_path_factory.mktemp("fleet"))) as world:
        yield world
