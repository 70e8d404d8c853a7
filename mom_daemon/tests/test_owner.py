"""root becomes the owner of mom's folders, also after a boot without a run directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534

pytestmark = [pytest.mark.processes, pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")]

BECOMES = """
import os, sys
from pathlib import Path
from mom_daemon import become_owner
state, run = map(Path, sys.argv[1:3])
become_owner(state, run, made=run if sys.argv[3:] else None)
print(os.geteuid())
"""


def becomes(folder: Path, *made: str) -> int:
    """Return the user of a root process after it saw a state directory of nobody, and no run directory."""
    (folder / "state").mkdir()
    os.chown(folder / "state", NOBODY, NOBODY)
    command = [sys.executable, "-c", BECOMES, str(folder / "state"), str(folder / "run"), *made]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout)


def test_a_run_directory_that_is_not_there_is_made_for_that_user(tmp_path: Path) -> None:
    assert becomes(tmp_path, "made") == NOBODY
    status = (tmp_path / "run").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (NOBODY, NOBODY, 0o755)


def test_who_only_looks_makes_none(tmp_path: Path) -> None:
    assert becomes(tmp_path) == NOBODY
    assert not (tmp_path / "run").exists()


def test_none_is_made_where_others_could_put_something_in_its_place(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert becomes(tmp_path, "made") == NOBODY
    assert not (tmp_path / "run").exists()


def test_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", NOBODY, NOBODY)
    assert becomes(tmp_path, "made") == NOBODY
    assert (tmp_path / "run").stat().st_mode & 0o7777 == 0o700
