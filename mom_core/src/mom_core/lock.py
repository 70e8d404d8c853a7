"""Lock that allows one mom per host. The kernel releases it when its holder dies.

Only mom's user may read the file, because any reader could lock it.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from mom_core.errors import MomError
from mom_core.files import read_file, refuse_untrusted

LOCK_MODE: Final = 0o600

LOOK_SECONDS: Final = 0.3
"""Longest wait for a process that only inspects the lock."""

RESTORE_SECONDS: Final = 30.0
"""Longest wait for a running `mom restore`."""


class RunLock:
    """Lock held while mom manages the host."""

    def __init__(self, directory: Path, patience: float = LOOK_SECONDS) -> None:
        self.path = directory / "mom.lock"
        self._patience = patience
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock. Raise `MomError` if it is held or unusable."""
        began = time.monotonic()
        while (descriptor := self._try()) is None:
            pid, command = _holder(self.path)
            waits = self._patience if " restore" in command else LOOK_SECONDS
            if time.monotonic() - began >= waits:
                who = f"process {pid} ({command})" if pid else "another process"
                raise MomError(f"mom is running already: {who} holds {self.path}", hint="stop it first")
            time.sleep(0.05)
        self._descriptor = descriptor
        with suppress(OSError):  # full disk: only the kernel's lock counts
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "command": " ".join(sys.argv)}).encode(), 0)

    def _try(self) -> int | None:
        try:
            _make_run_directory(self.path.parent)
            refuse_untrusted(self.path.parent, "run_directory")
            descriptor = open_lock(self.path)
        except OSError as error:
            raise MomError(f"cannot use {self.path}: {error.strerror}", hint="run as root, or set another run_directory") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            hint = "set run_directory to a folder on a file system with file locks, such as /run/mom"
            raise MomError(f"cannot lock {self.path}: {error.strerror}", hint=hint) from error
        return descriptor

    def release(self) -> None:
        """Release the lock, but keep the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def _make_run_directory(path: Path) -> None:
    # Ignore the umask: groups must reach the sockets in this folder.
    with suppress(FileExistsError):
        path.mkdir(parents=True)
        path.chmod(0o755)


def holder(directory: Path) -> int:
    """Return the PID of the mom that uses this run directory; 0 if none."""
    path = directory / "mom.lock"
    try:
        with open(path, "rb", opener=lambda _, flags: os.open(path, flags | os.O_NONBLOCK)) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(path)[0]
    except PermissionError:
        return locked_by(path)
    except OSError:
        pass
    return 0


def open_lock(path: Path) -> int:
    """Open a lock file that only this user can open, or raise `OSError`."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, LOCK_MODE)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != LOCK_MODE:
            os.fchmod(descriptor, LOCK_MODE)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def locked_by(path: Path, locks: Path = Path("/proc/locks")) -> int:
    """Return the PID that holds this file's exclusive lock; 0 if none or unknown."""
    try:
        status = path.stat()
        lines = locks.read_text(errors="replace").splitlines()
    except OSError:
        return 0
    meant = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[3] == "WRITE" and words[5] == meant and words[4].isdigit():
            return int(words[4])
    return 0


def _holder(path: Path) -> tuple[int, str]:
    try:
        content = json.loads(read_file(path, 4096))
        pid, command = content["pid"], content["command"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0, ""
    return (pid, command[:200]) if type(pid) is int and pid > 0 and type(command) is str else (0, "")
