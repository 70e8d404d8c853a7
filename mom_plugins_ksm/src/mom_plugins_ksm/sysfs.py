"""The kernel's KSM in /sys/kernel/mm/ksm, as a `KsmControl`."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from pathlib import Path

from mom_core import HypervisorError, NotSupported, Unit, Value
from mom_kvm import read_kernel_file, read_meminfo, write_file
from mom_plugins_ksm.fields import FILES
from mom_plugins_ksm.processes import Ksmd

FOLDER = "sys/kernel/mm/ksm"
ADVISOR_CURE = f"echo none > /{FOLDER}/advisor_mode"

_KEPT_SHARE = 0.05
"""Part of the host's memory that stays available after unmerging: guests may grow, and near 0 the OOM killer acts."""

_COUNT = re.compile(rb"[0-9]{1,20}\n?")
_SIGNED = re.compile(rb"-?[0-9]{1,20}\n?")
_NUMBERS = {file: _SIGNED if unit is Unit.BYTES else _COUNT for _, file, unit, _ in FILES if unit is not Unit.TEXT}
_NUMBERS["pages_scanned"] = _COUNT  # since Linux 6.6
_CHOSEN = re.compile(rb"\[([A-Za-z0-9_-]{1,40})\]")


class SysfsKsm:
    """Knobs of this kernel.

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
        """Write knobs in order. Raise `NotSupported` for a missing knob, or `HypervisorError` for a failed write."""
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
