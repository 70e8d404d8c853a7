"""HTTP server for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from movers_server import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text("mom@pve!mover=0123456789abcdef0123456789abcdef\n")
    return path
