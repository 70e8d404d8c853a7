"""A guest's QEMU process as the kernel shows it in /proc."""

from __future__ import annotations

import os
from typing import NamedTuple

from mom_toolkit import ProcessStat, read_kernel_file, read_process_file

_STAT_BYTES = 4096
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") >> 10


class Merged(NamedTuple):
    """KiB of a process that KSM has merged with other pages, and KiB that it saved after its own costs (may be negative; None: unknown)."""

    kib: int
    profit_kib: int | None


def times_of(process: str) -> ProcessStat | None:
    """The kernel's counters for this process; None when it has ended or cannot be read.

    :param process: its folder in /proc
    """
    found = ProcessStat.of(process)
    return None if found is None or found.state in {"Z", "X"} else found


def swapped_kib(process: str) -> int | None:
    """KiB of this process in the host's swap; None when it cannot be read."""
    return _kib(read_kernel_file(f"{process}/status", _STAT_BYTES), b"VmSwap")


def huge_kib(process: str) -> int | None:
    """KiB of this process in transparent huge pages, its own and shared ones; None when it cannot be read.

    The kernel walks the page tables of the whole process for it.
    """
    content = read_process_file(process, "smaps_rollup", _STAT_BYTES)
    own = _kib(content, b"AnonHugePages")
    return None if own is None else own + (_kib(content, b"ShmemPmdMapped") or 0)


def _kib(content: bytes, name: bytes) -> int | None:
    _, found, after = content.partition(b"\n" + name + b":")
    word = after.split(None, 1)[:1]
    return int(word[0]) if found and word and word[0].isdigit() else None


def merged(process: str) -> Merged | None:
    """Pages of this process that KSM has merged; None where the kernel does not tell (before 5.19), or cannot be asked."""
    counts = {}
    for line in read_process_file(process, "ksm_stat", _STAT_BYTES).splitlines():
        name, _, number = line.partition(b" ")
        counts[name] = number
    pages = counts.get(b"ksm_merging_pages")
    if pages is None:  # before 6.4
        pages = read_process_file(process, "ksm_merging_pages", _STAT_BYTES).strip()
    profit = counts.get(b"ksm_process_profit", b"")
    if not pages.isdigit():
        return None
    return Merged(int(pages) * _PAGE_KIB, int(profit) >> 10 if profit.removeprefix(b"-").isdigit() else None)
