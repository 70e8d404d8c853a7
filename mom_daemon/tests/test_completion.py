"""Completion: the scripts for shells, and what they are told on Tab."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mom_daemon.cli.frame import run

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
    assert offered("mom completion ", 2) == ["bash", "zsh", "fish"]


@pytest.mark.processes
def test_bash_completes_with_what_is_printed() -> None:
    program = f"""
PATH={BIN}:$PATH; eval "$(mom completion bash)"
COMP_WORDS=(mom guest); COMP_CWORD=1; _mom_completion mom guest mom; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "guests" in done.stdout.split()


@pytest.mark.processes
@pytest.mark.parametrize(("shell", "check"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_the_other_shells_take_what_is_printed(shell: str, check: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert f"_MOM_COMPLETE={shell}_complete" in printed
    if shutil.which(shell):
        script = tmp_path / "mom"
        script.write_text(printed)
        subprocess.run([shell, check, script], timeout=60, check=True)
