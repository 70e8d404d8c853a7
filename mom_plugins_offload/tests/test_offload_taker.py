"""The process that takes memory, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mom_plugins_offload import taker

pytestmark = pytest.mark.processes


def test_a_taker_whose_mom_ends_while_it_is_at_work_ends_without_a_word() -> None:
    started = [sys.executable, "-I", taker.__file__]
    with subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(json.dumps({"seconds": 1.0, "cpu_seconds": 1.0, "orders": []}).encode() + b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
