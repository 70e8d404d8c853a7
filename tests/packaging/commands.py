"""Commands that packages are made and tried with."""

import os
import subprocess
from collections.abc import Callable
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
