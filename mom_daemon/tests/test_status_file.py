"""The status file: cycles continue on a faulty disk."""

import errno
import os
import time
from pathlib import Path

import pytest

from mom_core import Engine
from mom_daemon.status_file import StatusFile
from mom_daemon.supervision import Supervision
from mom_devkit import config_of


def test_a_full_disk_leaves_the_old_status_with_a_new_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = StatusFile(tmp_path)
    with Engine(config_of(tmp_path, {})) as engine:
        file.write(engine, engine.cycle())
        before = file.path.read_bytes()
        os.utime(file.path, (1, 1))
        monkeypatch.setattr("mom_daemon.status_file.replace_file", full)
        file.write(engine, engine.cycle())
    assert file.path.read_bytes() == before
    assert file.path.stat().st_mtime > time.time() - 60


def test_a_folder_that_cannot_be_changed_keeps_nothing_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with Engine(config_of(tmp_path, {})) as engine:
        monkeypatch.setattr(Path, "unlink", read_only)
        StatusFile(tmp_path).remove()
        Supervision().ended(engine)
    assert [line.partition(f"{tmp_path}")[0] for line in caplog.messages] == ["cannot remove "] * 2
