"""Memory of a process that its kernel cannot reclaim."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from mom_kvm import read_kernel_file

_LINE: Final = re.compile(rb"^(HugetlbPages|VmLck):\s*(\d+) kB", re.MULTILINE)


class HeldMemory(NamedTuple):
    """KiB of a process in huge pages of the host's pool, and locked KiB: no other process can use these when the balloon takes them."""

    pool_kib: int = 0
    locked_kib: int = 0


def held_memory(process: str) -> HeldMemory:
    """Return the memory that the kernel cannot reclaim; none for an unreadable process. Memory that VFIO pins counts as locked.

    :param process: its folder in /proc
    """
    sizes = {name: int(kib) for name, kib in _LINE.findall(read_kernel_file(f"{process}/status"))}
    return HeldMemory(sizes.get(b"HugetlbPages", 0), sizes.get(b"VmLck", 0))
