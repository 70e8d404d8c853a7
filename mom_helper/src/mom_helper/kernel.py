"""What the helper's parts need of the kernel: files that are closed again, and limits that processes share."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)


FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

MOST_BYTES: Final = 16 << 10
"""More than is read of any file here."""


class opened:  # noqa: N801  # called as a function; a generator would take a twentieth of an order's time
    """For a `with`: a descriptor, below that of a folder where one is given; it is closed at the end. Raises `OSError`."""

    def __init__(self, name: str, flags: int = os.O_RDONLY, folder: int | None = None) -> None:
        self._file = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)

    def __enter__(self) -> int:
        return self._file

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def read_at(folder: int, name: str) -> bytes:
    """What a file says, in one read. Raises `OSError`."""
    with opened(name, os.O_RDONLY, folder) as file:
        return os.read(file, MOST_BYTES)


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
