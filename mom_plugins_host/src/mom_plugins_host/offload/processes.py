"""How a guest's memory is reached, why it cannot be, and what the kernel counts of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mom_core import Guest, format_kib, printable
from mom_kvm import GroupLimit, Hierarchies, ProcessStat, pid_of, read_kernel_file
from mom_plugins_host.offload.law import LEAST_KIB

_LOCKED_KIB: Final = 64 << 10
"""QEMU locks nothing of its own but queues and stacks; a guest whose memory is locked, or held for a device, has all of it so.

What VFIO holds the kernel counts as locked, and what iommufd holds as pinned (mm/util.c, drivers/iommu/iommufd/pages.c)."""

_STATUS: Final = re.compile(rb"^(VmLck|VmPin|HugetlbPages):\s+([0-9]{1,18}) kB$", re.MULTILINE)
_UNIFIED: Final = re.compile(rb"^0::(/.*)$", re.MULTILINE)
_FAULTS: Final = re.compile(rb"^(?:total_)?pgmajfault ([0-9]{1,20})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MemoryWay:
    """How a guest's memory is taken: `v2`, `v1`, `process`, or empty: not at all, for this reason.

    `swaps_in` is the folder of the control group (v2) whose limits of swap hold for its process, whoever else is in that group, and `top`
    that of all groups; empty: unknown, or there is none.
    """

    name: str
    folder: str = ""
    pid: int = 0
    started: int = 0
    why_not: str = ""
    swaps_in: str = ""
    top: str = ""

    @property
    def swap_limit(self) -> GroupLimit | None:
        """The limit of swap that leaves it the least now, of its control group and those above; None: there is none."""
        return GroupLimit.of_swap(self.swaps_in, self.top) if self.swaps_in else None


def way_to(guest: Guest, root: Path, hierarchies: Hierarchies) -> MemoryWay:
    """The way to a guest that the hypervisor lists.

    :param root: where /proc and /sys are found
    """
    pid = pid_of(guest)
    stat = ProcessStat.of(root / f"proc/{pid}") if pid else None
    if not pid or stat is None:
        return MemoryWay("", why_not="its process is not known")
    swaps_in, top = _swap_group(f"{root}/proc/{pid}", hierarchies)
    why = _held_in_place(f"{root}/proc/{pid}") or why_no_swap(GroupLimit.of_swap(swaps_in, top) if swaps_in else None)
    if why:
        return MemoryWay("", pid=pid, started=stat.started, why_not=why)
    paths = guest.properties.get("cgroups")
    for controller, file, name in (("", "memory.reclaim", "v2"), ("memory", "memory.force_empty", "v1")):
        path = paths.get(controller) if isinstance(paths, Mapping) else None
        folder = hierarchies.folder(controller, path) if isinstance(path, str) else None
        if folder is not None and Path(folder, file).exists():
            return MemoryWay(name, folder, pid, stat.started, "", swaps_in, top)
    return MemoryWay("process", "", pid, stat.started, "", swaps_in, top)


def _swap_group(process: str, hierarchies: Hierarchies) -> tuple[str, str]:
    """The folder of the group (v2) that a process is in, which need not be the guest's own, and that of all groups; empty: unknown."""
    match = _UNIFIED.search(read_kernel_file(f"{process}/cgroup"))
    folder = None if match is None else hierarchies.folder(Hierarchies.UNIFIED, match[1].decode(errors="surrogateescape"))
    top = hierarchies.top(Hierarchies.UNIFIED)
    return ("", "") if folder is None or top is None else (folder, top)


def why_no_swap(limit: GroupLimit | None) -> str:
    """Why a guest's control group keeps all of its memory from going to swap; empty where it does not."""
    if limit is None or limit.room >= LEAST_KIB:
        return ""
    group = printable(limit.name, 60)
    if not limit.limit:
        return f"its control group may not swap: memory.swap.max of {group} is 0"
    return f"its control group may swap no more: memory.swap.max of {group} is {format_kib(limit.limit)}"


def _held_in_place(process: str) -> str:
    """Why the memory of a process cannot go anywhere; empty if it can.

    :param process: its folder in /proc
    """
    told = {name: int(number) for name, number in _STATUS.findall(read_kernel_file(f"{process}/status"))}
    if told.get(b"HugetlbPages"):
        return "its memory is of huge pages, which the kernel does not swap"
    if told.get(b"VmLck", 0) > _LOCKED_KIB:
        return "its memory is locked, by itself or for a device of the host (VFIO)"
    if told.get(b"VmPin", 0) > _LOCKED_KIB:
        return "its memory is held in place for a device"
    return ""


def faults_of(way: MemoryWay, root: Path) -> int | None:
    """How many pages had to be read back for a guest since it runs; None where the kernel does not say.

    A group counts all of them. Of a process, those are missing that the kernel's own threads read for a vCPU meanwhile.
    """
    if way.folder:
        counts = _FAULTS.findall(read_kernel_file(f"{way.folder}/memory.stat"))
        if counts:  # of v1, with the groups below it (total_), and before that without: where libvirt makes some, it has no process itself
            return int(counts[-1])
    if not way.pid:
        return None
    stat = ProcessStat.of(root / f"proc/{way.pid}")
    return stat.major_faults if stat is not None and stat.started == way.started else None
