"""Free memory in the kernel's per-CPU page lists, and how mom makes it available.

A CPU that frees many pages, as for a balloon, keeps them in its list. Since Linux 6.7, all lists together can grow to an eighth of a zone
(mm/page_alloc.c, `decay_pcp_high`). /proc/meminfo does not count these pages as available.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mom_core import HypervisorError, format_kib
from mom_kvm import PAGE_KIB, why_not_writable, write_file

REFRESH = "proc/sys/vm/stat_refresh"
"""Kernel file that empties the lists."""

LEAST_GAP_SECONDS = 1.0
"""Shortest time between two attempts to empty the lists: the kernel's own interval (vm.stat_interval)."""

LONGEST_SECONDS = 0.1
"""Time limit of one attempt: enough to free 800 MiB from the lists of two CPUs."""

VAIN_WRITES = 20
"""mom ends an attempt after this many successive writes without effect."""

_LIST = re.compile(r"^ +count: +([0-9]{1,18})\n +high: +[0-9]+\n +batch: +[0-9]+\n(?: +high_min: +([0-9]{1,18})\n)?", re.MULTILINE)
"""Entry of a per-CPU list. Counts are in base pages; `high_min` is the list's limit in quiet times."""


def read_text(path: Path) -> str:
    """Read a kernel file; empty if unreadable. Bytes beyond ASCII become U+FFFD."""
    try:
        return path.read_bytes().decode("ascii", "replace")
    except OSError:
        return ""


class KeptByCpus(NamedTuple):
    """KiB in per-CPU lists. `excess` is the part above the lists' limits in quiet times."""

    total: int
    excess: int


def kept_by_cpus(zoneinfo: str) -> KeptByCpus | None:
    """Return the sum of all lists in /proc/zoneinfo; None without lists."""
    lists = _LIST.findall(zoneinfo)
    if not lists:
        return None
    excess = sum(max(0, int(count) - int(usual)) for count, usual in lists if usual)
    return KeptByCpus(sum(int(count) for count, _ in lists) * PAGE_KIB, excess * PAGE_KIB)


class CpuLists:
    """The host's per-CPU lists. `root` contains /proc and /sys.

    A write to vm.stat_refresh makes every CPU release a part of its list, 8 MiB of each zone (mm/vmstat.c, `refresh_cpu_vm_stats`).
    """

    def __init__(self, root: Path, log: logging.Logger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._zoneinfo = root / "proc/zoneinfo"
        self._refresh = root / REFRESH
        self._cpus = root / "sys/devices/system/cpu"
        self._log = log
        self._monotonic = monotonic
        self._next = float("-inf")
        self._thread: threading.Thread | None = None

    def kept(self) -> KeptByCpus | None:
        """Return the memory that CPUs keep; None if unknown."""
        return kept_by_cpus(read_text(self._zoneinfo))

    def why_not(self) -> str:
        """Return why mom cannot empty the lists, or an empty string."""
        for name in ("isolated", "nohz_full"):
            try:
                cpus = (self._cpus / name).read_bytes().decode("ascii", "replace").strip()
            except FileNotFoundError:  # a kernel without it
                continue
            except OSError as error:
                return f"cannot read the list of {name} CPUs, which mom must not disturb: {error.strerror}"
            if cpus and cpus != "(null)":
                return f"mom must not disturb CPUs {cpus} ({name})"
        return "" if (denied := why_not_writable(self._refresh)) is None else denied.message

    def take_back(self, least_kib: float) -> None:
        """Start a thread that empties the lists, unless the excess is below `least_kib`. A busy CPU may delay this thread."""
        now = self._monotonic()
        if now < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        self._next = now + LEAST_GAP_SECONDS
        kept = self.kept()
        if kept is None or kept.excess < least_kib or self.why_not():
            return
        thread = threading.Thread(target=self.empty, args=(kept,), name="host-cpu-lists", daemon=True)
        thread.start()
        self._thread = thread  # after the start, because `wait` cannot join a thread that did not start

    def wait(self, seconds: float = 10.0) -> None:
        """Wait up to `seconds` until the thread of `take_back` ends."""
        if self._thread is not None:
            self._thread.join(seconds)

    def empty(self, kept: KeptByCpus) -> None:
        """Empty the lists until nothing more is released, for at most `LONGEST_SECONDS`."""
        first, vain, end = kept.total, 0, self._monotonic() + LONGEST_SECONDS
        while kept.excess and vain < VAIN_WRITES and self._monotonic() < end:
            before = kept.total
            try:
                write_file(self._refresh, 1)
            except HypervisorError as error:  # mom-helper limits the rate of requests
                self._log.debug("%s", error)
                return
            if (now := self.kept()) is None:
                return
            kept = now
            vain = 0 if kept.total < before else vain + 1
        self._log.debug("per-CPU lists held %s of free memory, and hold %s now", format_kib(first), format_kib(kept.total))
