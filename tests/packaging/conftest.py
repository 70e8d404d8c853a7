"""Fixtures for tests of packages; each is built once."""

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import MadeOnce, run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    base = tmp_path_factory.getbasetemp()

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "made").exists():
                fill(folder)
                (folder / "made").touch()
        return folder

    return make


@pytest.fixture(scope="session")
def tree(made_once: MadeOnce) -> Path:
    """Return the tree of files that packages install."""
    return made_once("tree", lambda folder: run(sys.executable, ROOT / "packaging/tree.py", folder / "tree")) / "tree"
