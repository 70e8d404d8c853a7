"""KSM in /proc: QEMU and ksmd."""

from __future__ import annotations

import time
from pathlib import Path

from mom_kvm import ProcessStat, read_kernel_file

_LOOK_AGAIN_AFTER = 60.0
"""s between searches for an invisible ksmd, as in a container: a large host has thousands of processes."""


class Ksmd:
    """Kernel thread ksmd.

    :param root: folder with /proc
    """

    def __init__(self, root: Path) -> None:
        self._proc = root / "proc"
        self._pid = 0
        self._look_again_at = 0.0

    def cpu_seconds(self) -> float | None:
        """Return ksmd's CPU seconds; None if it is not visible."""
        seconds, now = self._seconds_of(self._pid) if self._pid else None, time.monotonic()
        if seconds is None and (self._pid or now >= self._look_again_at):
            self._look_again_at = now + _LOOK_AGAIN_AFTER
            self._pid = next((pid for pid in ProcessStat.ids(self._proc) or () if self._seconds_of(pid) is not None), 0)
            seconds = self._seconds_of(self._pid) if self._pid else None
        return seconds

    def _seconds_of(self, pid: int) -> float | None:
        process = ProcessStat.of(f"{self._proc}/{pid}")
        return process.cpu_seconds if process is not None and process.is_kernel_thread and process.name == "ksmd" else None


_SEARCH_SECONDS = 30.0
"""Age of the cached sum: reading the names of thousands of processes takes tens of milliseconds."""


class QemuProcesses:
    """QEMU processes of this host.

    :param root: folder with /proc
    :param page_size: in bytes
    """

    def __init__(self, root: Path, page_size: int) -> None:
        self._proc = root / "proc"
        self._page_size = page_size
        self._search_at = float("-inf")
        self._kib: int | None = None

    def address_space_kib(self, now: float) -> int | None:
        """Return the KiB of all processes (VSZ of ps); None if /proc is unreadable."""
        if now >= self._search_at:
            self._search_at = now + _SEARCH_SECONDS
            pids = ProcessStat.ids(self._proc)
            self._kib = None if pids is None else sum(map(self._pages_of, pids)) * self._page_size // 1024
        return self._kib

    def _pages_of(self, pid: int) -> int:
        # QEMU's name is kvm on Proxmox.
        name = read_kernel_file(f"{self._proc}/{pid}/comm")
        if b"qemu" not in name and name != b"kvm\n":
            return 0
        pages = read_kernel_file(f"{self._proc}/{pid}/statm").partition(b" ")[0]
        return int(pages) if pages.isdigit() else 0
