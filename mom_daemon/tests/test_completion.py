"""Completion on Tab."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def offered(words: str, word: int) -> list[str]:
    environment = {**os.environ, "_MOM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(word)}
    done = subprocess.run([BIN / "mom"], capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.processes
def test_verbs_their_verbs_and_options_are_offered() -> None:
    assert {"status", "doctor", "config"} <= set(offered("mom ", 1))
    assert offered("mom sta", 1) == ["status"]
    assert {"init", "check", "show"} <= set(offered("mom config ", 2))
    assert offered("mom doctor --j", 2) == ["--json"]
