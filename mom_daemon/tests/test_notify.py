"""Messages to systemd, received by a test's socket."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mom_daemon.supervision import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    name = f"{tmp_path}/notify" if request.param == "path" else f"@mom-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1))
        receiver.settimeout(30)
        yield receiver, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "45000000", "WATCHDOG_PID": str(os.getpid())}


def test_it_says_all_that_systemd_wants_to_know(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    receiver, environment = systemd
    notifier = Notifier(environment)
    notifier.ready("set up")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=set up"
    notifier.alive("cycle 1:\n3 guests")
    assert receiver.recv(4096) == b"WATCHDOG=1\nSTATUS=cycle 1: 3 guests"
    notifier.alive("half a \ud800")
    assert receiver.recv(4096) == rb"WATCHDOG=1_STATUS=half a \ud800".replace(b"_", b"\n"), "no text keeps the watchdog hungry"
    notifier.reloading()
    assert receiver.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping(7, "putting back")
    assert receiver.recv(4096) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=7000000\nSTATUS=putting back"


def test_the_watchdog_is_asked_for_more_and_never_for_less(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    receiver, environment = systemd
    notifier = Notifier(environment)
    notifier.needs(20)
    notifier.needs(60)
    assert receiver.recv(4096) == b"WATCHDOG_USEC=60000000"
    notifier.needs(10)
    assert receiver.recv(4096) == b"WATCHDOG_USEC=45000000"


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    receiver, environment = systemd
    Notifier({**environment, "WATCHDOG_PID": "1"}).alive("all is well")
    assert receiver.recv(4096) == b"STATUS=all is well"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "x"}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_systemd_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)
    notifier.ready()
    notifier.needs(5)
    notifier.alive("x")
    notifier.stopping(1)


def test_a_systemd_that_does_not_read_stops_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        taken = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            try:
                while sender.sendto(b"x", str(tmp_path / "notify")):
                    taken += 1
            except BlockingIOError:
                pass
        assert taken
        notifier.ready()
