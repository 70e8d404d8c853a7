"""CPUs of this host keep freed memory on their lists after much was freed at once. mom makes them return it."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ballast import available_mib
from mom_plugins_host.host.cpu_lists import CpuLists

pytestmark = [pytest.mark.real, pytest.mark.alone]

MIB = 512

BUSY_SECONDS = 60.0
"""Time for repeated tries: on a busy machine, CPUs react slowly, and other programs free memory meanwhile."""

PROGRAM = Path(__file__).with_name("page_by_page.py")


def test_memory_that_was_given_page_by_page_is_available_once_cpus_are_asked_for_it() -> None:
    lists = CpuLists(Path("/"), logging.getLogger())
    assert lists.why_not() == ""
    gives = [sys.executable, str(PROGRAM), str(MIB)]
    with subprocess.Popen(gives, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "given\n"
            before, available = lists.kept(), available_mib()
            lists.take_back(64 << 10)
            lists.wait()
            after, until = lists.kept(), time.monotonic() + BUSY_SECONDS
            while before and after and after.excess >= before.excess / 4 and after.excess and time.monotonic() < until:
                lists.empty(after)
                after = lists.kept()
            then = available_mib()
        finally:
            process.kill()
    assert before is not None
    assert after is not None
    if before.excess < MIB << 9:
        assert before.excess == 0 or before.total < 64 << 10, f"this kernel keeps little for its CPUs, or somebody took it back: {before}"
        return
    assert after.excess < before.excess / 4, (before, after)
    assert then - available > (before.excess - after.excess) >> 11, "half of it at least: others take memory meanwhile"
