"""Transparent huge pages of host and guests."""

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
"""Time for page-table walks in each sample. A GiB takes 3 ms in huge pages, 15 to 40 ms in small pages (benchmarks/hugepages)."""

_WALKS_SHARE: Final = 0.005
"""Share of one CPU. Walks of a thousand guests of 1 GiB then take 10 minutes, or an hour in pages of 4 KiB."""

_AGAIN_SECONDS: Final = 60.0
"""Shortest time between two walks of one process."""

_LARGEST_KIB: Final = 16 << 20
"""Largest process that is walked: it takes a quarter of a second in pages of 4 KiB, and the cycle waits."""


def mode_of(root: Path) -> str:
    """Return `always`, `madvise` or `never`; an empty string if unknown.

    :param root: folder that contains /sys
    """
    chosen = _MODE.search(read_kernel_file(f"{root}/sys/kernel/mm/transparent_hugepage/enabled", 64))
    return chosen[1].decode() if chosen else ""


@dataclass(slots=True)
class TableWalk:
    """Last walk of a process's page tables: KiB in huge pages, and its time.

    :param folder: the process's folder in /proc
    """

    folder: str
    kib: int | None = None
    at: float = float("-inf")


class HugePageWalks:
    """Walks of page tables in limited time. The process that has waited longest is first."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next = 0.0

    def renew(self, walks: Iterable[tuple[TableWalk, int | None]]) -> None:
        """Walk processes whose last walk is old.

        :param walks: each with the process's RSS in KiB
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
