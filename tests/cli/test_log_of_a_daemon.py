"""The log of a running mom. mom continues if its log fails."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
from mom_on_files import MOM, Mom


def works_on(mom: Mom) -> None:
    """Check that mom still acts."""
    mom.wait_for(lambda: mom.knob() == 1)
    (mom.root / "sys/kernel/mm/ksm/run").write_text("0\n")
    mom.wait_for(lambda: mom.knob() == 1)


def ends_well(mom: Mom, output: int | IO[bytes], **environment: str) -> None:
    """Check that mom acts, ends and restores everything with this log."""
    process = subprocess.Popen([MOM, "run", "-c", mom.config], stderr=output, stdout=output, env=mom.environment | environment)
    mom.started.append(process)
    works_on(mom)
    process.terminate()
    assert process.wait(60) == 0
    assert mom.knob() == 0


def test_a_full_disk_under_the_log_stops_nothing(mom: Mom) -> None:
    with Path("/dev/full").open("wb") as full:
        ends_well(mom, full, PYTHONUNBUFFERED="")


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """Return a full pipe without a reader."""
    hear, tell = os.pipe()
    os.set_blocking(tell, False)
    with suppress(BlockingIOError):
        while True:
            os.write(tell, b"x" * 4096)
    os.set_blocking(tell, True)
    yield tell
    os.close(tell)
    os.close(hear)


def test_a_pipe_that_nobody_reads_stops_nothing(mom: Mom, full_pipe: int) -> None:
    mom.configure("merge: {}", interval="10ms", log_level="debug")
    ends_well(mom, full_pipe, PYTHONUNBUFFERED="1")


LOGS_FIRST = """
import logging, os, time
from mom_daemon.logs import Log
from mom_daemon.run import tell_of_faults
log = Log()
logging.getLogger("mom").warning("no hypervisor")
time.sleep(0.2)  # the log's thread writes by now
tell_of_faults()
os._exit(0)
"""


def test_a_log_that_waits_for_its_pipe_does_not_keep_mom_from_starting(full_pipe: int) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    assert subprocess.run([sys.executable, "-c", LOGS_FIRST], stderr=full_pipe, env=environment, timeout=60, check=False).returncode == 0
