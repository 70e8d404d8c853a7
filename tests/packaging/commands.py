"""Commands that build and test packages."""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

MadeOnce = Callable[[str, Callable[[Path], object]], Path]
"""Function that returns a folder with this name. It is filled once for all processes of a test run."""

_SECONDS = 1800
"""Longest time of a command on a busy machine: an image with Debian."""

_OURS = frozenset({"PYTHONPATH", "VIRTUAL_ENV", "MOM_CONFIG"})


def run(*command: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Return a command's output, in an environment without this folder. A failure shows its standard error."""
    clean = {name: value for name, value in os.environ.items() if name not in _OURS}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=cwd, env=clean | (environment or {}), check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def scratch_script(text: str, folder: Path, programs: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """Return a package's script for a host in that folder, and its environment. Programs record their calls in `called`.

    `bin` has the host's programs, and `usr/lib/mom/bin` the package's mom.
    """
    for path in (*(f"bin/{one}" for one in programs), "usr/lib/mom/bin/mom"):
        program = folder / path
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$0 $*" >> {folder}/called\n')
        program.chmod(0o755)
    script = folder / "script"
    script.write_text(re.sub(r"(?<![\w/])/(?=(?:etc|run|usr|var)/)", f"{folder}/", text))
    return script, {"PATH": f"{folder}/bin:{os.environ['PATH']}"}
