"""Messages to systemd, and files in the run directory for `mom restore`."""

import errno
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mom_core.config import Config
from mom_core.errors import MomError
from mom_daemon.supervision import IN_FORCE, KEEP, RELOAD_SECONDS, Notifier, Supervision, config_as_left, take_keep


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000])
def test_a_damaged_copy_of_the_configuration_is_said_to_be_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / IN_FORCE).write_text(content)
    with pytest.raises(MomError, match=r"is damaged: .*give the path of the configuration with -c"):
        config_as_left(tmp_path)


def test_changes_are_kept_for_one_successor_only(tmp_path: Path) -> None:
    Supervision().stopping(Config(run_directory=tmp_path), keep=True)
    assert take_keep(tmp_path)
    assert not take_keep(tmp_path)


def test_changes_are_kept_for_a_successor_as_soon_as_that_can_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, *_: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    engine: Any = SimpleNamespace(config=Config(run_directory=tmp_path), longest_step=1.0)
    report: Any = SimpleNamespace(number=1)
    supervision = Supervision()
    supervision.opened(engine)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", full)
        supervision.cycle_done(engine, report, "")
    assert not (tmp_path / KEEP).exists()
    supervision.cycle_done(engine, report, "")
    assert take_keep(tmp_path)


def test_a_mom_that_puts_back_leaves_nothing_to_a_successor_however_it_ends(tmp_path: Path) -> None:
    (tmp_path / KEEP).touch()
    Supervision().stopping(Config(run_directory=tmp_path), keep=False)
    assert not take_keep(tmp_path)


def test_the_copy_of_the_configuration_in_force_is_written_as_soon_as_it_can_be(tmp_path: Path) -> None:
    config = Config(run_directory=tmp_path / "run", given={"interval": "7s", "plugins": {"sim": {}}})
    engine: Any = SimpleNamespace(config=config, longest_step=1.0)
    (tmp_path / "run").touch()
    supervision = Supervision()
    supervision.opened(engine)
    (tmp_path / "run").unlink()
    supervision.cycle_done(engine, cast(Any, SimpleNamespace(number=1)), "")
    assert config_as_left(tmp_path / "run").interval == 7.0


def test_the_watchdog_gives_a_reload_the_time_to_put_things_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"mom-test-reload-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    engine: Any = SimpleNamespace(config=Config(run_directory=tmp_path, stop_timeout=90.0), longest_step=5.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.settimeout(10)
        supervision = Supervision()
        supervision.opened(engine)
        supervision.reloading()
        said = [receiver.recv(4096).split(b"\n")[0] for _ in range(3)]
    assert said == [b"READY=1", b"WATCHDOG_USEC=%d" % ((RELOAD_SECONDS + 90) * 1_000_000), b"RELOADING=1"]


def test_who_may_not_take_the_mark_says_so(tmp_path: Path) -> None:
    (tmp_path / KEEP).mkdir()
    with pytest.raises(MomError, match=r"cannot remove .*keep"):
        take_keep(tmp_path)


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
