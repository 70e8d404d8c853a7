"""How much is done and said in a second, by all processes of the helper together."""

from __future__ import annotations

import mmap
import os
import select
import struct
import time
from typing import Final

_STATE: Final = struct.Struct("dd")


class Allowance:
    """So much a second, and what was not used of the last seconds.

    It is kept in memory that processes share, without a lock: two that take at the same moment may take a little more.

    :param rate: a second
    :param seconds: how much of it may be saved up
    """

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate, self._most = rate, rate * seconds
        self._shared = mmap.mmap(-1, _STATE.size)
        _STATE.pack_into(self._shared, 0, self._most, time.monotonic())

    def take(self, amount: float = 1.0) -> bool:
        """Take so much, whether or not there is as much left; False where nothing is left, and then nothing is taken."""
        now = time.monotonic()
        before, since = _STATE.unpack_from(self._shared)
        left = min(self._most, before + (now - since) * self._rate)
        if left > 0:
            _STATE.pack_into(self._shared, 0, left - amount, now)
        return bool(left > 0)


class OrderLog:
    """Lines on standard error, 20 a second and 500 at once; the next one says how many were left out.

    What is not read is left out, too: no order waits for a log.
    """

    def __init__(self) -> None:
        self._allowance = Allowance(20, seconds=25)
        self._left_out = 0
        self._errors = select.poll()
        self._errors.register(2, select.POLLOUT)

    def __call__(self, text: str) -> None:
        """Say it."""
        if not (self._allowance.take() and any(events & select.POLLOUT for _, events in self._errors.poll(0))):
            self._left_out += 1
            return
        more = f" ({self._left_out} lines more were left out)" if self._left_out else ""
        self._left_out = 0
        os.write(2, text.encode("ascii", "backslashreplace").replace(b"\n", b" ")[:500] + more.encode() + b"\n")
