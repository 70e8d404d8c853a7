"""How fast the host's swap is: measured on memory of this process, a few MiB of it."""

from __future__ import annotations

import mmap
import os
import re
import time
from dataclasses import dataclass
from typing import Final

_MADV_PAGEOUT: Final = 21
_BYTES: Final = 8 << 20
_SWAP: Final = re.compile(r"^VmSwap:\s+([0-9]+) kB$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SwapSpeed:
    """What a page takes on its way out and in, in seconds."""

    out_seconds: float
    in_seconds: float


def measured() -> SwapSpeed | None:
    """The speed now; None where nothing went, as with a kernel before 5.4, or where all swap is full."""
    page = mmap.PAGESIZE
    with mmap.mmap(-1, _BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for at in range(0, _BYTES, page):  # half of each page cannot be compressed: a guest's memory is like that
            memory[at : at + page // 2] = os.urandom(page // 2)
        before, begun = _swapped_kib(), time.perf_counter()
        try:
            memory.madvise(_MADV_PAGEOUT)
        except OSError:
            return None
        out = time.perf_counter() - begun
        pages = (_swapped_kib() - before) * 1024 // page
        if pages < _BYTES // page // 2:
            return None
        begun = time.perf_counter()
        for at in range(0, _BYTES, page):
            memory[at]
        return SwapSpeed(out / pages, (time.perf_counter() - begun) / pages)


def _swapped_kib() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123  # of this process, never of a test's folder
        match = _SWAP.search(file.read())
    return int(match[1]) if match else 0
