"""Moving single pages of a process between nodes: the system call move_pages(2), which the C library has no function for.

It is asked for a few thousand pages at a time, so that moving a guest can be paced and stopped; migrate_pages(2) and cpusets move
all of a process at once.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence
from typing import Final, Protocol

_NUMBERS: Final = {"x86_64": 279, "aarch64": 239, "riscv64": 239, "ppc64le": 301, "s390x": 310}
"""The system call's number: arch/x86/entry/syscalls/syscall_64.tbl of Linux, and its like."""

_MOVE_OWN: Final = 1 << 1
"""MPOL_MF_MOVE of include/uapi/linux/mempolicy.h: leave alone what other processes map too, such as pages that were merged."""


class PageMover(Protocol):
    """Finds and moves pages. Both return for each page the node on which it is then, or a negative error number, such as -ENOENT where
    there is no page, -EBUSY for one that is held in place, and -EACCES for one that is shared."""

    def where(self, pid: int, addresses: Sequence[int]) -> Sequence[int]:
        """On which nodes these pages are. Raises `OSError`."""
        ...

    def move(self, pid: int, addresses: Sequence[int], node: int) -> Sequence[int]:
        """Move them there. Raises `OSError`."""
        ...


class KernelPages:
    """This kernel's pages."""

    def __init__(self) -> None:
        number = _NUMBERS.get(platform.machine())
        self._number = number if number is not None and struct.calcsize("P") == 8 else None
        self._call = ctypes.CDLL(None, use_errno=True).syscall

    def missing(self) -> str:
        """Why pages cannot be moved; empty if they can."""
        if self._number is None:
            return f"moving pages is not known for {platform.machine()}"
        try:
            self._ask(0, [], None)
        except OSError as error:
            return f"the kernel does not move pages: {error.strerror}"
        return ""

    def where(self, pid: int, addresses: Sequence[int]) -> Sequence[int]:
        """As the protocol says."""
        return self._ask(pid, addresses, None)

    def move(self, pid: int, addresses: Sequence[int], node: int) -> Sequence[int]:
        """As the protocol says."""
        return self._ask(pid, addresses, node)

    def _ask(self, pid: int, addresses: Sequence[int], node: int | None) -> Sequence[int]:
        count = len(addresses)
        pages = (ctypes.c_void_p * count)(*addresses)
        status = (ctypes.c_int * count)()
        nodes = None if node is None else (ctypes.c_int * count)(*([node] * count))
        flags = 0 if node is None else _MOVE_OWN
        result = self._call(
            ctypes.c_long(self._number or 0), ctypes.c_long(pid), ctypes.c_ulong(count), pages, nodes, status, ctypes.c_long(flags)
        )
        if result < 0:  # above 0 is how many were not moved
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return list(status)
