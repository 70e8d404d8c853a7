"""A guest's QEMU process in /proc."""

from __future__ import annotations

import os
import resource
from typing import NamedTuple

from mom_kvm.kernel_files import PAGE_KIB, ProcessStat, open_process_file, read_kernel_file

_STAT_BYTES = 4096

_HIGHEST_KEPT_SHARE = 0.5
"""Share of this process's limit of descriptors that may stay open."""

_SHARED_KIB = 64 << 10
"""QEMU's own shared memory. With more, the guest's memory is shared (virtiofs, vhost-user: memfd)."""


class Merged(NamedTuple):
    """KiB that KSM has merged, and KiB saved after KSM's own costs (may be negative)."""

    kib: int
    profit_kib: int | None


def times_of(process: str) -> ProcessStat | None:
    """Return the counters; None if the process has exited or is unreadable."""
    stat = ProcessStat.of(process)
    return None if stat is None or stat.state in {"Z", "X"} else stat


def swapped_kib(process: str) -> int | None:
    """Return KiB in the host's swap; None if unreadable, or if memory is shared (not in VmSwap)."""
    content = read_kernel_file(f"{process}/status", _STAT_BYTES)
    return None if (_kib(content, b"RssShmem") or 0) >= _SHARED_KIB else _kib(content, b"VmSwap")


def largest_kib(process: str, host_kib: int | None) -> int:
    """Return the mapped memory, at most the host's memory; 0 if unreadable."""
    pages = read_kernel_file(f"{process}/statm", _STAT_BYTES).partition(b" ")[0]
    mapped = int(pages) * PAGE_KIB if pages.isdigit() else 0
    return mapped if host_kib is None else min(mapped, host_kib)


def _kib(content: bytes, name: bytes) -> int | None:
    _, separator, after = content.partition(b"\n" + name + b":")
    word = after.split(None, 1)[:1]
    return int(word[0]) if separator and word and word[0].isdigit() else None


class MergedPages:
    """KSM's statistics of a process. Their file stays open.

    :param process: its folder in /proc
    """

    def __init__(self, process: str) -> None:
        self._process = process
        self._kept: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next `read` opens no file."""
        return self._kept is not None

    def read(self) -> Merged | None:
        """Return KSM's statistics; None if the process is unreadable or has exited, or before Linux 5.19."""
        counts = {}
        for line in self._content().splitlines():
            name, _, number = line.rpartition(b" ")
            counts[name] = number
        pages = counts.get(b"ksm_merging_pages", counts.get(b"", b""))  # the older file contains only the number
        profit = counts.get(b"ksm_process_profit", b"")
        if not pages.isdigit():
            return None
        return Merged(int(pages) * PAGE_KIB, int(profit) >> 10 if profit.removeprefix(b"-").isdigit() else None)

    def close(self) -> None:
        """Close the file. The next `read` opens it again."""
        kept, self._kept = self._kept, None
        if kept is not None:
            os.close(kept)

    __del__ = close

    def _content(self) -> bytes:
        try:
            if self._kept is not None:
                return os.pread(self._kept, _STAT_BYTES, 0)
            for name in ("ksm_stat", "ksm_merging_pages"):  # ksm_merging_pages: before Linux 6.4
                self._kept = open_process_file(self._process, name)
                content = os.pread(self._kept, _STAT_BYTES, 0)
                if name == "ksm_merging_pages" or b"ksm_merging_pages " in content:
                    if self._kept >= _HIGHEST_KEPT_SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
                        self.close()  # leave descriptors for others
                    return content
                self.close()
        except OSError:
            self.close()
        return b""
