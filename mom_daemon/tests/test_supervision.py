"""Files in mom's run directory: the configuration in force, and whether changes are kept for the next start."""

import errno
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mom_core.config import Config
from mom_core.errors import MomError
from mom_daemon.supervision import IN_FORCE, KEEP, RELOAD_SECONDS, Supervision, config_as_left, take_keep


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
