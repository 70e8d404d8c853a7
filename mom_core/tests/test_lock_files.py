"""Lock files: only mom's user can read them, because any reader can hold the lock."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mom_core.errors import MomError
from mom_core.lock import RunLock, holder, open_lock

OTHER = 65534
"""ID of another user: nobody."""

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

BECOME_OTHER = f"""
import fcntl, os, sys, time
from pathlib import Path
from mom_core.lock import holder
os.setgroups([]); os.setgid({OTHER}); os.setuid({OTHER})
"""
"""Program that changes its user after its imports: that user may not be able to read the interpreter."""

LOCKS = """
try:
    descriptor = os.open(sys.argv[1], os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as error:
    print(type(error).__name__, flush=True)
else:
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that every user can read, like /run/mom."""
    made = Path(tempfile.mkdtemp(prefix="momtest-locks-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.mark.processes
def test_a_pipe_in_the_place_of_a_lock_keeps_nobody_waiting(folder: Path) -> None:
    os.mkfifo(folder / "mom.lock")
    code = "import sys; from pathlib import Path; from mom_core.lock import holder; print(holder(Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, timeout=20, check=True)
    assert done.stdout == b"0\n"


@contextmanager
def other_locks(path: Path) -> Iterator[str]:
    """Let another user try to lock a file. Yield the result."""
    command_line = [sys.executable, "-c", BECOME_OTHER + LOCKS, str(path)]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def as_other(program: str, folder: Path) -> str:
    """Run a program as another user. Return its output."""
    command_line = [sys.executable, "-c", BECOME_OTHER + program, str(folder)]
    return subprocess.run(command_line, capture_output=True, text=True, check=True, cwd="/").stdout.strip()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("before", [None, 0o644, 0o666, 0o640, 0o600])
def test_the_lock_is_mom_users_alone_whatever_it_was_before(folder: Path, before: int | None, umask: int) -> None:
    path = folder / "mom.lock"
    if before is not None:
        path.touch()
        path.chmod(before)
    old = os.umask(umask)
    try:
        with RunLock(folder):
            assert mode(path) == 0o600
            assert holder(folder) == os.getpid()
    finally:
        os.umask(old)


def test_a_lock_that_is_a_link_is_not_followed(folder: Path) -> None:
    (folder / "elsewhere").touch()
    (folder / "x.lock").symlink_to(folder / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        open_lock(folder / "x.lock")


def test_a_file_system_that_has_no_locks_is_not_taken_for_another_mom(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(MomError, match=r"cannot lock .*mom\.lock: No locks available \(set run_directory"):
        RunLock(folder).take()


@pytest.mark.processes
@AS_ROOT
def test_another_user_cannot_hold_the_lock(folder: Path) -> None:
    with RunLock(folder):
        pass
    with other_locks(folder / "mom.lock") as said:
        assert said == "PermissionError"
    with RunLock(folder):
        assert as_other("print(holder(Path(sys.argv[1])))", folder) == str(os.getpid())
