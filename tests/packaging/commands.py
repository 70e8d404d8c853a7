"""Commands that packages are made and tried with."""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

MadeOnce = Callable[[str, Callable[[Path], object]], Path]
"""Gives a folder of this name, which it has filled in this way once, for all processes of a run of tests."""

_SECONDS = 1800
"""The longest that any takes on a machine that is busy: an image with a Debian in it."""

_OURS = frozenset({"PYTHONPATH", "VIRTUAL_ENV", "MOM_CONFIG"})


def run(*command: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What the command prints, in an environment that knows nothing of this folder; its standard error is in the failure."""
    clean = {name: value for name, value in os.environ.items() if name not in _OURS}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=cwd, env=clean | (environment or {}), check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def scratch_script(text: str, folder: Path, programs: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """A script of a package's, for a host below that folder, and its environment: programs that note in `called` how they were called.

    Those in `bin` are the host's; `usr/lib/mom/bin` has the package's mom.
    """
    for path in (*(f"bin/{one}" for one in programs), "usr/lib/mom/bin/mom"):
        program = folder / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$0 $*" >> {folder}/called\n')
        program.chmod(0o755)
    script = folder / "script"
    script.write_text(re.sub(r"(?<![\w/])/(?=(?:etc|run|usr|var)/)", f"{folder}/", text))
    return script, {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
