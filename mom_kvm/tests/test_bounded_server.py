"""Servers of plugins: failed starts, and clients that are dropped for others."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mom_core import MomError
from mom_devkit import wait_until
from mom_kvm import Address, BoundedServer


class Small(BoundedServer[BoundedServer.Door]):
    """Server with one client that stays. It can refuse further clients."""

    def __init__(self, path: Path) -> None:
        super().__init__([BoundedServer.Door(lambda: Address(str(path)).listen())], 1, logging.getLogger("mom.test"))
        self.connected = 0
        self.dropped = 0
        self.open = True
        self.failure: Exception | None = None

    @property
    def clients(self) -> int:
        return self.connected

    def make_room(self, door: BoundedServer.Door, sock: socket.socket | None) -> bool:
        self.dropped += 1
        return True

    def takes(self, door: BoundedServer.Door) -> bool:
        return self.open

    def begin(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def connect(self, door: BoundedServer.Door, sock: socket.socket) -> None:
        self.connected += 1
        await asyncio.get_running_loop().sock_recv(sock, 1)
        sock.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.sock"


@pytest.fixture
def server(path: Path) -> Iterator[Small]:
    made = Small(path)
    yield made
    made.close()


@pytest.mark.parametrize("broken", ["loop", "begin"])
def test_a_server_that_cannot_begin_says_so_and_leaves_nothing(
    server: Small, path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """No caller waits forever, and the next server can use the address."""

    def refused(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        if broken == "begin":
            server.failure = ValueError("nothing fits")
        else:
            patched.setattr(asyncio.events, "new_event_loop", refused)
        with pytest.raises(MomError, match=r"the server could not be started: .*(Too many open files|nothing fits)"):
            server.start("test")
    assert not path.exists()
    server.failure = None
    server.start("test")
    assert path.exists()


def test_for_a_client_that_the_door_does_not_take_nobody_has_to_go(server: Small, path: Path) -> None:
    server.start("test")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as refused, socket.socket(socket.AF_UNIX) as taken:
        first.connect(str(path))
        wait_until(lambda: server.connected == 1)
        server.open = False
        refused.settimeout(60)
        refused.connect(str(path))
        assert refused.recv(1) == b""
        assert server.dropped == 0
        server.open = True
        taken.connect(str(path))
        wait_until(lambda: server.connected == 2)
        assert server.dropped == 1
