"""Transparent huge pages: the host's mode, and the share of guests' memory in them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_kvm.kernel_files import read_kernel_file
from mom_kvm.qemu_process import huge_kib

NEVER: Final = "never"

_MODE: Final = re.compile(rb"\[([a-z]{1,16})\]")

_WALKS_SECONDS: Final = 0.02
"""Time for walks in one sample. A GiB takes 3 ms in huge pages, and 15 ms in small ones (benchmarks/hugepages; up to 40 on a busy host)."""

_WALKS_SHARE: Final = 0.005
"""Share of one CPU for all walks: a thousand guests of 1 GiB take 10 minutes, or an hour with all memory in pages of 4 KiB."""

_AGAIN_SECONDS: Final = 60.0
"""Least age of a figure before its process is walked again."""

_LARGEST_KIB: Final = 16 << 20
"""Larger processes are not walked: the cycle waits for a walk, a quarter of a second at this size in pages of 4 KiB."""


def mode_of(root: Path) -> str:
    """Return the mode of transparent huge pages: `always`, `madvise` (on request, as QEMU does) or `never`; empty: unknown.

    :param root: where /sys is
    """
    chosen = _MODE.search(read_kernel_file(f"{root}/sys/kernel/mm/transparent_hugepage/enabled", 64))
    return chosen[1].decode() if chosen else ""


@dataclass(slots=True)
class TableWalk:
    """Walk through a process's page tables: KiB in huge pages (None: unknown), and the time.

    :param folder: the process's in /proc
    """

    folder: str
    kib: int | None = None
    at: float = float("-inf")


class HugePageWalks:
    """Walks the page tables of processes, longest waiting first, within bounds of time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next = 0.0

    def renew(self, walks: Iterable[tuple[TableWalk, int | None]]) -> None:
        """Walk again where due.

        :param walks: each with the KiB that the process holds; None: unknown
        """
        now = self._monotonic()
        if now < self._next:
            return
        due = [walk for walk, held in walks if now - walk.at >= _AGAIN_SECONDS and (held or 0) <= _LARGEST_KIB]
        began, spent = time.perf_counter(), 0.0
        for walk in sorted(due, key=lambda candidate: candidate.at):
            walk.kib, walk.at = huge_kib(walk.folder), now
            spent = time.perf_counter() - began
            if spent > _WALKS_SECONDS:
                break
        self._next = now + spent / _WALKS_SHARE
