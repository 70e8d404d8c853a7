"""A guest's QEMU process as the kernel shows it in /proc: found through libvirt's pid file, and never taken for another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from mom_core import ProcessStat, parse_process_stat, read_kernel_file

_PID_FILE_BYTES = 32
_STAT_BYTES = 4096
_COMMAND_BYTES = 256 << 10
_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") >> 10
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Merged(NamedTuple):
    """KiB of a process that KSM has merged with other pages, and KiB that it saved after its own costs (may be negative; None: unknown)."""

    kib: int
    profit_kib: int | None


def pid_of(folder: Path, proc: Path, name: str, uuid: str) -> int | None:
    """The process id of the QEMU process that runs this guest; None where it cannot be found for certain.

    The name is the guest owner's choice, so it is only ever used as a plain file name: nothing outside the folder is opened. Some versions
    of libvirt write it into the file's name as they do into XML, so that one guest's file may have the name of another guest; only a
    process that QEMU was started in with this UUID counts.
    """
    for file_name in dict.fromkeys((name, escape(name, {'"': "&quot;", "'": "&apos;"}))):
        pid = _pid_in(folder, file_name)
        if pid is not None and _was_started_for(proc, pid, uuid):
            return pid
    return None


def _pid_in(folder: Path, name: str) -> int | None:
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        return None
    text = read_kernel_file(f"{folder}/{name}.pid", _PID_FILE_BYTES).strip()
    return int(text) or None if text.isdigit() and len(text) < 10 else None


def _was_started_for(proc: Path, pid: int, uuid: str) -> bool:
    arguments = read_kernel_file(f"{proc}/{pid}/cmdline", _COMMAND_BYTES).split(b"\0")
    return b"-uuid" in arguments and uuid.encode() in arguments


def times_of(process: str) -> ProcessStat | None:
    """What the kernel counted for this process; None when it has ended or cannot be read.

    :param process: its folder in /proc
    """
    found = parse_process_stat(read_kernel_file(f"{process}/stat"))
    return None if found is None or found.state in {"Z", "X"} else found


def swapped_kib(process: str) -> int | None:
    """KiB of this process in the host's swap; None when it cannot be read."""
    _, found, after = read_kernel_file(f"{process}/status", _STAT_BYTES).partition(b"\nVmSwap:")
    word = after.split(None, 1)[:1]
    return int(word[0]) if found and word and word[0].isdigit() else None


def merged(process: str) -> Merged | None:
    """What KSM has merged of this process; None where the kernel does not tell (before 5.19), or not this user."""
    counts = {}
    for line in read_kernel_file(f"{process}/ksm_stat", _STAT_BYTES).splitlines():
        name, _, number = line.partition(b" ")
        counts[name] = number
    pages = counts.get(b"ksm_merging_pages")
    if pages is None:  # before 6.4
        pages = read_kernel_file(f"{process}/ksm_merging_pages", _STAT_BYTES).strip()
    profit = counts.get(b"ksm_process_profit", b"")
    if not pages.isdigit():
        return None
    return Merged(int(pages) * _PAGE_KIB, int(profit) >> 10 if profit.removeprefix(b"-").isdigit() else None)
