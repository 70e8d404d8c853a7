"""The process that takes memory, and how it ends."""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from mom_plugins_offload import worker

pytestmark = pytest.mark.processes


ORDER = json.dumps({"seconds": 1.0, "cpu_seconds": 1.0, "requests": []}).encode() + b"\n"


@pytest.fixture
def process() -> Iterator[Any]:
    """A worker that waits for orders; its streams are there, as mom has them."""
    with subprocess.Popen([sys.executable, "-I", worker.__file__], stdin=PIPE, stdout=PIPE, stderr=PIPE) as started:
        yield started


def test_a_worker_whose_mom_ends_while_it_is_at_work_ends_without_a_word(process: Any) -> None:
    process.stdout.close()
    process.stdin.write(ORDER)
    process.stdin.close()
    assert process.stderr.read() == b""


def test_the_kernel_ends_it_before_guests_and_not_as_late_as_mom(process: Any) -> None:
    process.stdin.write(ORDER)
    process.stdin.flush()
    assert process.stdout.readline()
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == f"{worker.OOM_SCORE}\n"
    process.stdin.close()


def test_terabytes_of_addresses_are_gone_through_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    small, huge = (1 << 30, (1 << 30) + (5 << 20)), (1 << 40, 9 << 40)
    monkeypatch.setattr(worker, "_areas", lambda pid: [small, huge])
    step = worker.STEP_KIB << 10
    count = 3 + (8 << 40) // step
    request = worker.ReclaimRequest("a", "process", 1, at=count - 1)
    tracemalloc.start()
    found = list(islice(worker._steps(request), 5))
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    begin = small[0]
    assert found == [
        (huge[1] - step, step), (begin, step), (begin + step, step), (begin + 2 * step, 1 << 20), (huge[0], step),
    ]  # fmt: skip
    monkeypatch.setattr(worker, "_areas", lambda pid: [small])
    assert len(list(worker._steps(request))) == 3
