"""Free memory that CPUs keep in lists of their own: how much it is, and how the host gets it back.

A CPU that frees many pages at once, as it does when a guest's balloon is filled, puts them into a list of its own. Since Linux 6.7 these
lists grow until all of them together hold an eighth of a zone's memory, and shrink again by some MiB a second (mm/page_alloc.c,
`decay_pcp_high`). /proc/meminfo counts what is in them neither as free nor as available, and other CPUs get it only when the kernel finds
nothing else: guests would be asked for memory that has been given already.
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
from mom_kvm import why_not_writable, write_file
from mom_plugins_host.host.readings import PAGE_KIB

REFRESH = "proc/sys/vm/stat_refresh"
"""The file of the kernel that empties them."""

LEAST_GAP_SECONDS = 1.0
"""Between two times at which lists are emptied: the pace at which the kernel itself looks after them (vm.stat_interval)."""

LONGEST_SECONDS = 0.1
"""How long they are emptied at a time. 800 MiB on two CPUs take as long."""

VAIN_WRITES = 20
"""After so many writes without a change no more will come. Each lowers what a list may hold by an eighth before it takes anything out of
one that holds less than that, and lists may be allowed ten times of what they hold."""

_LIST = re.compile(r"^ +count: +([0-9]{1,18})\n +high: +[0-9]+\n +batch: +[0-9]+\n(?: +high_min: +([0-9]{1,18})\n)?", re.MULTILINE)
"""One list in /proc/zoneinfo, in pages of the base size; `high_min` is what it may hold in quiet times. Kernels without it keep no more."""


def read_text(path: Path) -> str:
    """The whole text of a file in /proc or /sys; empty when it cannot be read, whatever the reason.

    Bytes that are not ASCII become U+FFFD, which no parser here accepts as part of a number.
    """
    try:
        return path.read_bytes().decode("ascii", "replace")
    except OSError:
        return ""


class KeptByCpus(NamedTuple):
    """The KiB that CPUs keep: in all, and beyond what they keep in quiet times."""

    total: int
    excess: int


def kept_by_cpus(zoneinfo: str) -> KeptByCpus | None:
    """The same by the text of /proc/zoneinfo; None when it says nothing."""
    lists = _LIST.findall(zoneinfo)
    if not lists:
        return None
    excess = sum(max(0, int(count) - int(usual)) for count, usual in lists if usual)
    return KeptByCpus(sum(int(count) for count, _ in lists) * PAGE_KIB, excess * PAGE_KIB)


class CpuLists:
    """The lists of this host.

    Each write to /proc/sys/vm/stat_refresh has every CPU do what it would do within the next second anyway: bring its statistics up to
    date, and let go of a part of its list, 8 MiB of each zone (mm/vmstat.c, `vmstat_refresh` and `refresh_cpu_vm_stats`; a read does the
    same, Documentation/admin-guide/sysctl/vm.rst).

    :param root: where /proc and /sys are found
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
        """The memory that CPUs keep now; None: unknown."""
        return kept_by_cpus(read_text(self._zoneinfo))

    def why_not(self) -> str:
        """Why lists are not emptied here; empty when they are."""
        for name in ("isolated", "nohz_full"):
            try:
                cpus = (self._cpus / name).read_bytes().decode("ascii", "replace").strip()
            except FileNotFoundError:  # a kernel without it
                continue
            except OSError as error:
                return f"which CPUs are to be left alone ({name}) is unknown: {error.strerror}"
            if cpus and cpus != "(null)":
                return f"CPUs {cpus} are to be left alone ({name})"
        return "" if (denied := why_not_writable(self._refresh)) is None else denied.message

    def take_back(self, least_kib: float) -> None:
        """Begin to empty the lists if so much could come of it. In a thread: the kernel asks every CPU, and one may be busy for long."""
        now = self._monotonic()
        if now < self._next or (self._thread is not None and self._thread.is_alive()):
            return
        self._next = now + LEAST_GAP_SECONDS
        kept = self.kept()
        if kept is None or kept.excess < least_kib or self.why_not():
            return
        thread = threading.Thread(target=self.empty, args=(kept,), name="host-cpu-lists", daemon=True)
        thread.start()
        self._thread = thread  # now: one that could not be started cannot be waited for

    def wait(self, seconds: float = 10.0) -> None:
        """Wait until nothing is being emptied."""
        if self._thread is not None:
            self._thread.join(seconds)

    def empty(self, kept: KeptByCpus) -> None:
        """Empty them until nothing comes any more, or for `LONGEST_SECONDS`."""
        first, vain, end = kept.total, 0, self._monotonic() + LONGEST_SECONDS
        while kept.excess and vain < VAIN_WRITES and self._monotonic() < end:
            before = kept.total
            try:
                write_file(self._refresh, 1)
            except HypervisorError as error:  # mom-helper takes so many orders only
                self._log.debug("%s", error)
                return
            if (now := self.kept()) is None:
                return
            kept = now
            vain = 0 if kept.total < before else vain + 1
        self._log.debug("CPUs kept %s of free memory for themselves, and keep %s now", format_kib(first), format_kib(kept.total))
