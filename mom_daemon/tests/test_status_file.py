"""The status file: old, foreign and unreadable ones, and a disk that fails."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mom_core import Engine, MomError, Severity
from mom_core.lock import RunLock
from mom_daemon.report_models import REPORT_FORMAT
from mom_daemon.status_file import STATUS_FILE, StatusFile, read_status, status_of
from mom_daemon.supervision import Supervision
from mom_devkit import config_of


@pytest.fixture
def run_directory(tmp_path: Path) -> Iterator[Path]:
    """Yield the run directory of a running mom with a status of 100 s ago."""
    with Engine(config_of(tmp_path / "made", {})) as engine:
        content = status_of(engine, engine.cycle())
    with RunLock(tmp_path / "run"):
        old = {**content, "interval_seconds": 5.0, "monotonic_seconds": time.monotonic() - 100}
        (tmp_path / "run" / STATUS_FILE).write_text(json.dumps(old))
        yield tmp_path / "run"


def test_a_mom_whose_status_is_old_hangs_or_cannot_write_it(run_directory: Path) -> None:
    status = read_status(run_directory)
    assert status is not None
    assert status.late
    (condition,) = status.verdict.conditions
    assert condition.severity is Severity.ERROR
    assert "its last cycle ended 1 min 40 s ago" in condition.message
    assert f"kill -9 {os.getpid()}" in condition.cure


def test_a_status_of_another_version_is_not_misread(run_directory: Path) -> None:
    file = run_directory / STATUS_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": REPORT_FORMAT + 1}))
    said = rf"has format {REPORT_FORMAT + 1}, but this mom reads format {REPORT_FORMAT} \(restart the daemon after an upgrade"
    with pytest.raises(MomError, match=f"the report from {file} {said}"):
        read_status(run_directory)


@pytest.mark.processes
def test_a_pipe_in_its_place_keeps_nobody_waiting(run_directory: Path) -> None:
    (run_directory / STATUS_FILE).unlink()
    os.mkfifo(run_directory / STATUS_FILE)
    code = "import sys, mom_daemon.status_file as s; from pathlib import Path; s.read_status(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(run_directory)], capture_output=True, text=True, timeout=20, check=False)
    assert f"cannot read {run_directory / STATUS_FILE}: not a regular file" in done.stderr


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
