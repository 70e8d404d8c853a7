"""One mom for a host: a lock that the kernel releases when its holder dies, and that says who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from types import TracebackType

from mom_core.errors import AlreadyRunning, MomError


class RunLock:
    """Held while a mom manages the host. The file names the holder; the kernel's lock on it is what counts."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "mom.lock"
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock. Raises `AlreadyRunning`, which names the holder, or `MomError` when the folder cannot be used."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise MomError(f"cannot use {self.path}: {error.strerror}", hint="run as root, or set run_directory") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid, command = _holder(descriptor)
            os.close(descriptor)
            who = f"process {pid} ({command})" if pid else "another process"
            raise AlreadyRunning(f"mom is running already: {who} holds {self.path}", pid=pid, hint="stop that one first") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "command": " ".join(sys.argv)}).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the lock. The file stays: removing it would let two hold it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def holder(directory: Path) -> int:
    """The process id of the mom that runs with this run directory, 0 if none does."""
    try:
        descriptor = os.open(directory / "mom.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _holder(descriptor)[0]
    else:
        return 0
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> tuple[int, str]:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        return int(content["pid"]), str(content["command"])[:200]
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""
