"""The kernel's own KSM, as the files of /sys/kernel/mm/ksm, in the shape in which a hypervisor offers one (`KsmControl`)."""

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
"""Of the host's memory, stays available when all is unmerged: that takes seconds, in which guests take memory, too, and near 0 the kernel
kills whoever asks for more."""

_COUNT = re.compile(rb"[0-9]{1,20}\n?")
_SIGNED = re.compile(rb"-?[0-9]{1,20}\n?")
_NUMBERS = {file: _SIGNED if unit is Unit.BYTES else _COUNT for _, file, unit, _ in FILES if unit is not Unit.TEXT}
_NUMBERS["pages_scanned"] = _COUNT  # since Linux 6.6
_CHOSEN = re.compile(rb"\[([A-Za-z0-9_-]{1,40})\]")


class SysfsKsm:
    """Reads and writes the knobs that this kernel has.

    :param root: where /sys and /proc are found
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / FOLDER
        self._ksmd = Ksmd(root)
        self._root = root

    def ksm_read(self) -> Mapping[str, Value]:
        """Knobs and counters by the names of their files; what is missing, cannot be read or is malformed is absent.

        `ksmd_cpu_seconds` is the CPU time that ksmd has used, where it can be seen.
        """
        found: dict[str, Value] = {}
        for name, pattern in _NUMBERS.items():
            text = read_kernel_file(f"{self.folder}/{name}")
            if pattern.fullmatch(text):
                found[name] = int(text)
        if not found:
            return found  # no KSM here: nothing else to look for
        if chosen := _CHOSEN.search(read_kernel_file(f"{self.folder}/advisor_mode")):
            found["advisor_mode"] = chosen[1].decode("ascii")
        if (seconds := self._ksmd.cpu_seconds()) is not None:
            found["ksmd_cpu_seconds"] = seconds
        return found

    def ksm_write(self, knobs: Mapping[str, int]) -> None:
        """Write these knobs, in the given order.

        Raises `NotSupported` for a knob that this kernel has not, `PermissionDenied`, or `HypervisorError` with the kernel's reason.
        """
        for name, value in knobs.items():
            try:
                write_file(self.folder / name, f"{value:d}")
            except HypervisorError as error:
                raise _explained(error, name) from error.__cause__

    def spare_kib(self) -> int | None:
        """Memory of this host in KiB that unmerging may take: what is available but for a twentieth of all; None when it is not known."""
        found = read_meminfo(self._root)
        available, total = found.get("MemAvailable"), found.get("MemTotal")
        return None if available is None or total is None else max(0, available - int(_KEPT_SHARE * total))


def _explained(error: HypervisorError, name: str) -> HypervisorError:
    """The meaning of the kernel's refusal, as the kernel's mm/ksm.c gives it."""
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if isinstance(error, NotSupported):
        return NotSupported(f"this kernel has no KSM knob {name}")
    if number == errno.EBUSY and name == "merge_across_nodes":
        return HypervisorError("pages are shared, and merge_across_nodes can only change while none are", hint="set ksm_run to 2 first")
    if number == errno.EINVAL and name == "pages_to_scan":
        return HypervisorError("the kernel refused pages_to_scan: it takes none while an advisor is on", hint=ADVISOR_CURE)
    return error
