"""Signals at any moment, also in the handler of another signal, or while a cycle is recorded."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mom_daemon.supervision import KEEP
from mom_devkit import wait_until

pytestmark = pytest.mark.processes

RUNS = """
import os, signal, sys
from pathlib import Path
from mom_daemon import Daemon
from mom_devkit import config_of

folder, function, line = sys.argv[1:]
lines = 0

def called(frame, event, argument):
    if frame.f_code.co_name == function or (frame.f_back is not None and frame.f_back.f_trace is counted):
        return counted
    return None

def counted(frame, event, argument):
    global lines
    lines += event == "line"
    if event == "line" and lines == int(line):
        os.kill(os.getpid(), signal.SIGTERM)
    return counted

with Daemon() as daemon:
    daemon.run(lambda: config_of(Path(folder), {}, interval=3600.0), lambda: sys.settrace(called))
"""


@contextmanager
def signalled(folder: Path, function: str, line: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a mom that gets SIGTERM at that line of a function or of its callees. Check that it ends well."""
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-c", RUNS, str(folder), function, str(line)], stderr=file)
    try:
        yield process
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "ended" in log.read_text().splitlines()[-1]


@pytest.mark.parametrize("line", [1, 6])
def test_a_mom_ends_also_when_a_second_signal_comes_while_it_takes_the_first_one(tmp_path: Path, line: int) -> None:
    """systemd sends SIGTERM after the SIGUSR2 of ExecStop."""
    with signalled(tmp_path, "on_stop", line) as process:
        wait_until(lambda: list(tmp_path.rglob("status.json")), (tmp_path / "log").read_text)
        process.send_signal(signal.SIGUSR2)


def test_a_mom_that_is_to_put_everything_back_notes_nothing_else_whenever_it_is_told(tmp_path: Path) -> None:
    with signalled(tmp_path, "_keep", 2):
        pass
    assert not (tmp_path / "run" / KEEP).exists(), "or what could not be put back would be left to a next mom"
