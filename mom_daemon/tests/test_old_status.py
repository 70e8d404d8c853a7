"""What a status file that is old says of its mom: that it hangs, or that it works and cannot write."""

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
from mom_daemon.look.status_file import read_status
from mom_daemon.status import STATUS_FILE, status_of
from mom_devkit import config_of


@pytest.fixture
def run_directory(tmp_path: Path) -> Iterator[Path]:
    """Of a mom that runs, whose status is 100 s old."""
    with Engine(config_of(tmp_path / "made", {})) as engine:
        content = status_of(engine, engine.cycle())
    with RunLock(tmp_path / "run"):
        old = {**content, "interval_seconds": 5.0, "monotonic_seconds": time.monotonic() - 100}
        (tmp_path / "run" / STATUS_FILE).write_text(json.dumps(old))
        yield tmp_path / "run"


def test_a_mom_that_cannot_write_its_status_works(run_directory: Path) -> None:
    status = read_status(run_directory)
    assert status is not None
    assert not status.late
    (condition,) = status.verdict.conditions
    assert condition.severity is Severity.WARNING
    assert condition.message == "mom works, but cannot write its status; the data below is from 1 min 40 s ago"
    assert "kill" not in condition.cure


@pytest.mark.parametrize("ago", [100, -3600], ids=["untouched since", "the clock was put back"])
def test_a_mom_that_has_not_touched_it_hangs(run_directory: Path, ago: float) -> None:
    then = time.time() - ago
    os.utime(run_directory / STATUS_FILE, (then, then))
    status = read_status(run_directory)
    assert status is not None
    assert status.late
    (condition,) = status.verdict.conditions
    assert condition.severity is Severity.ERROR
    assert f"kill -9 {os.getpid()}" in condition.cure


def test_a_mom_that_could_never_write_it_is_said_to_work(run_directory: Path) -> None:
    (run_directory / STATUS_FILE).write_bytes(b"")
    with pytest.raises(MomError, match=f"mom runs as process {os.getpid()}, but could not write its status file"):
        read_status(run_directory)


@pytest.mark.processes
def test_a_pipe_in_its_place_keeps_nobody_waiting(run_directory: Path) -> None:
    (run_directory / STATUS_FILE).unlink()
    os.mkfifo(run_directory / STATUS_FILE)
    code = "import sys, mom_daemon.look.status_file as s; from pathlib import Path; s.instead(d := Path(sys.argv[1])); s.read_status(d)"
    done = subprocess.run([sys.executable, "-c", code, str(run_directory)], capture_output=True, text=True, timeout=20, check=False)
    assert f"cannot read {run_directory / STATUS_FILE}: not a regular file" in done.stderr
