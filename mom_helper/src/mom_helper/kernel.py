"""Context manager for files, and rate limits that several processes share."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)


FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

MOST_BYTES: Final = 16 << 10


class opened:  # noqa: N801  # used like a function; a generator would need 5 % of a request's time
    """Context manager that opens a file, optionally below a folder's descriptor. Raises `OSError` on failure."""

    def __init__(self, name: str, flags: int = os.O_RDONLY, folder: int | None = None) -> None:
        self._file = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=folder)

    def __enter__(self) -> int:
        return self._file

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def read_at(folder: int, name: str) -> bytes:
    """Return the content of a file, from a single read. Raise `OSError` on failure."""
    with opened(name, os.O_RDONLY, folder) as file:
        return os.read(file, MOST_BYTES)


class Allowance:
    """Rate limit that saves up unused amounts of the last seconds.

    :param rate: amount per second
    :param seconds: how many seconds' worth can be saved up
    """

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate, self._most, self._shared = rate, rate * seconds, memoryview(mmap.mmap(-1, 16)).cast("d")
        self._shared[0], self._shared[1] = self._most, time.monotonic()

    def take(self, amount: float = 1.0) -> bool:
        """Take an amount if anything is left, even less than the amount. Return False if nothing is left."""
        now = time.monotonic()
        left: float = min(self._most, self._shared[0] + (now - self._shared[1]) * self._rate)
        if left > 0:
            self._shared[0], self._shared[1] = left - amount, now
        return left > 0
