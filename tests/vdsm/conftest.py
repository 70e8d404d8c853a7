"""A vdsm as a process, certificates, and a client that talks to it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from vdsm_pki import Ca, make_ca, write_pki

from mom_plugins_vdsm.connection import Connection, ConnectionSettings
from mom_plugins_vdsm.tls import TlsFiles

PEER = Path(__file__).with_name("vdsm_peer.py")


class Vdsm:
    """The peer's process, told what to do through its stdin."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, str(PEER), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port: int = self._answer()["port"]

    def _answer(self) -> dict:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def do(self, what: str, **arguments: object) -> object:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        assert "done" in answer, answer
        return answer["done"]

    def add(self, *machines: Mapping[str, object]) -> None:
        self.do("add", machines=list(machines))

    def fault(self, method: str, times: int = 1, **fault: object) -> None:
        self.do("fault", method=method, times=times, fault=fault)

    def calls(self, *methods: str) -> list[tuple[str, dict]]:
        """What was called since the last time, of these methods."""
        called = self.do("calls")
        assert isinstance(called, list)
        return [(method, params) for method, params in called if not methods or method in methods]

    def wire(self) -> dict:
        found = self.do("wire")
        assert isinstance(found, dict)
        return found

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def ca() -> Ca:
    return make_ca()


@pytest.fixture
def pki(tmp_path: Path, ca: Ca) -> Path:
    return write_pki(tmp_path / "pki", ca)


@pytest.fixture
def start_vdsm() -> Iterator[Callable[..., Vdsm]]:
    """Start a peer with these options."""
    started: list[Vdsm] = []

    def start(*options: object) -> Vdsm:
        started.append(Vdsm(*map(str, options)))
        return started[-1]

    yield start
    for vdsm in started:
        vdsm.end()


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    """Make a connection to a peer; it connects when it is first used."""
    made: list[Connection] = []

    def make(vdsm: Vdsm, pki: Path | None = None, *, largest: int = 1 << 20, events: bool = False) -> Connection:
        files = None if pki is None else TlsFiles(pki / "keys/vdsmkey.pem", pki / "certs/vdsmcert.pem", pki / "certs/cacert.pem")
        connection = Connection(ConnectionSettings("127.0.0.1", vdsm.port, files, largest, events), logging.getLogger("test"))
        connection.start()
        made.append(connection)
        return connection

    yield make
    for connection in made:
        connection.close()


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def ids(guests: Sequence) -> list[str]:
    return [guest.id for guest in guests]
