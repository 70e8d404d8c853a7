"""What the helper's parts need of the kernel: files that are closed again, a log, limits that processes share, and copies of itself."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG: Final = 1


class opened:  # noqa: N801  # called as a function; a generator would take a twentieth of an order's time
    """For a `with`: a descriptor, below that of a folder where one is given; it is closed at the end. Raises `OSError`."""

    def __init__(self, name: str, flags: int = os.O_RDONLY, folder: int | None = None) -> None:
        self._file = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)

    def __enter__(self) -> int:
        return self._file

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def read_at(folder: int | None, name: str, most: int = 16 << 10) -> bytes:
    """What a file says, in one read. Raises `OSError`."""
    with opened(name, os.O_RDONLY, folder) as file:
        return os.read(file, most)


class Allowance:
    """So much a second, and what was not used of the last seconds.

    It is kept in memory that processes share, without a lock: two that take at the same moment may take a little more.

    :param rate: a second
    :param seconds: how much of it may be saved up
    """

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate, self._most, self._shared = rate, rate * seconds, memoryview(mmap.mmap(-1, 16)).cast("d")
        self._shared[0], self._shared[1] = self._most, time.monotonic()

    def take(self, amount: float = 1.0) -> bool:
        """Take so much, whether or not there is as much left; False where nothing is left, and then nothing is taken."""
        now = time.monotonic()
        left: float = min(self._most, self._shared[0] + (now - self._shared[1]) * self._rate)
        if left > 0:
            self._shared[0], self._shared[1] = left - amount, now
        return left > 0


class OrderLog:
    """Lines on standard error, 20 a second and 500 at once; the next one says how many were left out.

    What is not read is left out, too: no order waits for a log.
    """

    def __init__(self) -> None:
        self._allowance, self._left_out, self._errors = Allowance(20, seconds=25), 0, select.poll()
        self._errors.register(2, select.POLLOUT)

    def __call__(self, text: str) -> None:
        """Say it."""
        if not self._allowance.take() or self._errors.poll(0) != [(2, select.POLLOUT)]:
            self._left_out += 1
            return
        more = f" ({self._left_out} lines more were left out)" if self._left_out else ""
        self._left_out = 0
        os.write(2, text.encode("ascii", "backslashreplace").replace(b"\n", b" ")[:500] + more.encode() + b"\n")


def forked(work: Callable[[], None]) -> int:
    """The id of a new process that does this, and ends then, or with its parent."""
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        try:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:  # it has not ended before that
                work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # whatever it was, this process is not to go on as its parent
            traceback.print_exc(limit=-4)
        finally:
            os._exit(1)
    return pid
