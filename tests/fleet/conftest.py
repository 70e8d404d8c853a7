"""A fleet of its own for each test; files whose tests share one, or need more, say so themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_world import FleetWorld, need_a_server


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[FleetWorld]:
    need_a_server()
    world = FleetWorld(tmp_path)
    yield world
    world.close()
