"""QEMU's processes by their names in /proc, and what memory they could offer for merging."""

from __future__ import annotations

from pathlib import Path

from mom_toolkit import process_ids, read_kernel_file


def _is_qemu(name: bytes) -> bool:
    """Whether it is a name of QEMU's: with qemu in it, which is what MOM counts, such as qemu-kvm; or kvm, which is Proxmox'."""
    return b"qemu" in name or name == b"kvm\n"


def _pages_of(statm: bytes) -> int:
    """The pages of a process's address space; 0 of one that has ended meanwhile."""
    pages = statm.partition(b" ")[0]
    return int(pages) if pages.isdigit() else 0


_SEARCH_SECONDS = 60.0
"""How long a process is known to be none of QEMU's. On a host with thousands of processes, asking each for its name takes tens of
milliseconds. It may become one later (exec), or its number may be given to another."""


class QemuProcesses:
    """The QEMU processes of this host, followed from cycle to cycle.

    :param root: where /proc is found
    :param page_size: bytes
    """

    def __init__(self, root: Path, page_size: int) -> None:
        self._proc = root / "proc"
        self._page_size = page_size
        self._seen: set[int] = set()
        self._others: set[int] = set()
        """Processes that were none of QEMU's at two looks: at the first, one may be about to become QEMU."""
        self._search_at = 0.0

    def address_space_kib(self, now: float) -> int | None:
        """The address space of all of them together in KiB, as ps calls it VSZ; 0 without any, None when /proc cannot be read.

        :param now: seconds of a clock that never jumps
        """
        found = process_ids(self._proc)
        if found is None:
            return None
        pids = set(found)
        if now >= self._search_at:
            self._others.clear()
            self._seen.clear()
            self._search_at = now + _SEARCH_SECONDS
        self._others &= pids
        pages = 0
        strangers: set[int] = set()
        for pid in pids - self._others:
            name = read_kernel_file(f"{self._proc}/{pid}/comm")
            if _is_qemu(name):
                pages += _pages_of(read_kernel_file(f"{self._proc}/{pid}/statm"))
            elif name:
                (self._others if pid in self._seen else strangers).add(pid)
        self._seen = strangers
        return pages * self._page_size // 1024
