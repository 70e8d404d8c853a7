"""KSM of this kernel, in /sys/kernel/mm/ksm and /proc, as a `KsmControl`."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Mapping
from pathlib import Path

from mom_core import HypervisorError, NotSupported, Unit, Value
from mom_kvm import ProcessStat, read_kernel_file, read_meminfo, write_file
from mom_plugins_ksm.fields import FILES

_LOOK_AGAIN_AFTER = 60.0
"""Seconds between searches for an invisible ksmd (as in a container). Searches are slow with thousands of processes."""


class Ksmd:
    """Kernel thread ksmd.

    :param root: folder with /proc
    """

    def __init__(self, root: Path) -> None:
        self._proc = root / "proc"
        self._pid = 0
        self._look_again_at = 0.0

    def cpu_seconds(self) -> float | None:
        """Return the CPU seconds that ksmd has used; None if ksmd is not visible."""
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
"""Seconds between two sums of QEMU's address spaces, because reading thousands of names is slow."""


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
        """Return the address space of all QEMU processes in KiB (VSZ in ps); None if /proc is unreadable."""
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


FOLDER = "sys/kernel/mm/ksm"
ADVISOR_CURE = f"echo none > /{FOLDER}/advisor_mode"

_KEPT_SHARE = 0.05
"""Unmerging must leave this share of the host's memory available, because guests may grow. Near 0, the OOM killer acts."""

_COUNT = re.compile(rb"[0-9]{1,20}\n?")
_SIGNED = re.compile(rb"-?[0-9]{1,20}\n?")
_NUMBERS = {file: _SIGNED if unit is Unit.BYTES else _COUNT for _, file, unit, _ in FILES if unit is not Unit.TEXT}
_CHOSEN = re.compile(rb"\[([A-Za-z0-9_-]{1,40})\]")


class SysfsKsm:
    """KSM's files of this kernel.

    :param root: folder with /sys and /proc
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER
        self._ksmd = Ksmd(root)
        self._root = root

    def ksm_read(self) -> Mapping[str, Value]:
        """Return the value of each readable file, keyed by name, and `ksmd_cpu_seconds` if mom can see ksmd."""
        files: dict[str, Value] = {}
        for name, pattern in _NUMBERS.items():
            text = read_kernel_file(f"{self.folder}/{name}")
            if pattern.fullmatch(text):
                files[name] = int(text)
        if not files:
            return files  # no KSM
        if chosen := _CHOSEN.search(read_kernel_file(f"{self.folder}/advisor_mode")):
            files["advisor_mode"] = chosen[1].decode("ascii")
        if (seconds := self._ksmd.cpu_seconds()) is not None:
            files["ksmd_cpu_seconds"] = seconds
        return files

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write the knobs in the given order. Raise `NotSupported` for a missing knob, or `HypervisorError` for a failed write."""
        for name, value in knobs.items():
            try:
                write_file(self.folder / name, f"{value:d}")
            except HypervisorError as error:
                raise _explained(error, name) from error.__cause__

    def spare_kib(self) -> int | None:
        """Return the KiB that unmerging may take; None if unknown."""
        meminfo = read_meminfo(self._root)
        available, total = meminfo.get("MemAvailable"), meminfo.get("MemTotal")
        return None if available is None or total is None else max(0, available - int(_KEPT_SHARE * total))


def _explained(error: HypervisorError, name: str) -> HypervisorError:
    # The meanings are from the kernel's mm/ksm.c.
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if isinstance(error, NotSupported):
        return NotSupported(f"this kernel has no KSM knob {name}")
    if number == errno.EBUSY and name == "merge_across_nodes":
        return HypervisorError("merge_across_nodes can change only while no pages are shared", hint="set ksm_run to 2 first")
    if number == errno.EINVAL and name == "pages_to_scan":
        return HypervisorError("the kernel rejects pages_to_scan while its advisor is active", hint=ADVISOR_CURE)
    return error
