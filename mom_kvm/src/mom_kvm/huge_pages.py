"""The host's transparent huge pages: whether there are any, and which part of its guests is in them."""

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
"""After this time no further process is walked in one sample. A GiB takes 3 ms where it is in huge pages and 15 ms where it is not
(benchmarks/hugepages; on a busy host, up to 40)."""

_WALKS_SHARE: Final = 0.005
"""Of one CPU's time, for all walks: each of a thousand guests of 1 GiB has its turn in 10 minutes, in an hour where all are in pages of
4 KiB."""

_AGAIN_SECONDS: Final = 60.0
"""How old a figure may be before the process is walked again, when its turn comes."""

_LARGEST_KIB: Final = 16 << 20
"""A larger process is not walked: the cycle waits for it, a quarter of a second for one of this size in pages of 4 KiB."""


def mode_of(root: Path) -> str:
    """Return the mode of transparent huge pages: `always`, `madvise` (on request, as QEMU does) or `never`; empty: unknown.

    :param root: where /sys is found
    """
    chosen = _MODE.search(read_kernel_file(f"{root}/sys/kernel/mm/transparent_hugepage/enabled", 64))
    return chosen[1].decode() if chosen else ""


@dataclass(slots=True)
class TableWalk:
    """Result of a walk through a process's page tables: KiB in huge pages, and the time; None: unknown.

    :param folder: the process's in /proc
    """

    folder: str
    kib: int | None = None
    at: float = float("-inf")


class HugePageWalks:
    """Has the kernel walk the page tables of processes, of the one that waits longest first, and bounded in time."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._next = 0.0

    def renew(self, walks: Iterable[tuple[TableWalk, int | None]]) -> None:
        """Walk again where it is time.

        :param walks: each with KiB that the process holds; None: unknown
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
