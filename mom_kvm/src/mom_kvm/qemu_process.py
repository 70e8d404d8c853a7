"""A guest's QEMU process as the kernel shows it in /proc."""

from __future__ import annotations

import os
import resource
from typing import NamedTuple

from mom_kvm.kernel_files import ProcessStat, open_process_file, read_kernel_file, read_process_file

_STAT_BYTES = 4096

_HIGHEST_KEPT_SHARE = 0.5
"""Of the descriptors that this process may have."""

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") >> 10

_SHARED_KIB = 64 << 10
"""KiB of shared memory that QEMU holds at most for itself, as for a display; with more, the guest's own memory is shared (virtiofs,
vhost-user: memfd)."""


class Merged(NamedTuple):
    """KiB of a process that KSM has merged with other pages, and KiB that it saved after its own costs (may be negative; None: unknown)."""

    kib: int
    profit_kib: int | None


def times_of(process: str) -> ProcessStat | None:
    """Return the kernel's counters for this process; None when it has ended or cannot be read.

    :param process: its folder in /proc
    """
    stat = ProcessStat.of(process)
    return None if stat is None or stat.state in {"Z", "X"} else stat


def swapped_kib(process: str) -> int | None:
    """Return the KiB of this process in the host's swap; None when it cannot be read, or the guest's memory is shared.

    The kernel counts no shared memory in VmSwap (proc(5)).
    """
    content = read_kernel_file(f"{process}/status", _STAT_BYTES)
    return None if (_kib(content, b"RssShmem") or 0) >= _SHARED_KIB else _kib(content, b"VmSwap")


def huge_kib(process: str) -> int | None:
    """Return the KiB of this process in transparent huge pages, its own and shared ones; None when it cannot be read.

    The kernel walks the page tables of the whole process for it.
    """
    content = read_process_file(process, "smaps_rollup", _STAT_BYTES)
    own = _kib(content, b"AnonHugePages")
    return None if own is None else own + (_kib(content, b"ShmemPmdMapped") or 0)


def largest_kib(process: str, host_kib: int | None) -> int:
    """Return the KiB that this process's guest can have at most: what the process maps, and no more than the host has, as a process can map
    anything. 0: the process has ended, or cannot be read.

    :param host_kib: the host's memory; None: unknown
    """
    pages = read_kernel_file(f"{process}/statm", _STAT_BYTES).partition(b" ")[0]
    mapped = int(pages) * _PAGE_KIB if pages.isdigit() else 0
    return mapped if host_kib is None else min(mapped, host_kib)


def _kib(content: bytes, name: bytes) -> int | None:
    _, separator, after = content.partition(b"\n" + name + b":")
    word = after.split(None, 1)[:1]
    return int(word[0]) if separator and word and word[0].isdigit() else None


class MergedPages:
    """What KSM has merged of a process.

    The kernel's file of it stays open: where mom is not root, each opening is an order to mom-helper, for each guest. It is the process's
    own for good, whoever has its number later.

    :param process: its folder in /proc
    """

    def __init__(self, process: str) -> None:
        self._process = process
        self._kept: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the next look needs no opening."""
        return self._kept is not None

    def read(self) -> Merged | None:
        """Return KSM's figures; None before Linux 5.19, for an unreadable file, or after the process has ended."""
        counts = {}
        for line in self._content().splitlines():
            name, _, number = line.rpartition(b" ")
            counts[name] = number
        pages = counts.get(b"ksm_merging_pages", counts.get(b"", b""))  # the older file is the number alone
        profit = counts.get(b"ksm_process_profit", b"")
        if not pages.isdigit():
            return None
        return Merged(int(pages) * _PAGE_KIB, int(profit) >> 10 if profit.removeprefix(b"-").isdigit() else None)

    def close(self) -> None:
        """Let go of the file. The next time, it is opened again."""
        kept, self._kept = self._kept, None
        if kept is not None:
            os.close(kept)

    __del__ = close

    def _content(self) -> bytes:
        try:
            if self._kept is not None:
                return os.pread(self._kept, _STAT_BYTES, 0)
            for name in ("ksm_stat", "ksm_merging_pages"):  # the second before 6.4
                self._kept = open_process_file(self._process, name)
                content = os.pread(self._kept, _STAT_BYTES, 0)
                if name == "ksm_merging_pages" or b"ksm_merging_pages " in content:
                    if self._kept >= _HIGHEST_KEPT_SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
                        self.close()  # others need some, too
                    return content
                self.close()
        except OSError:
            self.close()
        return b""
