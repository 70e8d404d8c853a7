"""A guest's QEMU process as the host sees it: its process id from libvirt's pid file, its page faults from /proc."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_PID_FILE_BYTES = 32
_STAT_BYTES = 4096


class Faults(NamedTuple):
    """Page faults of a process since it was started: `minor` ones needed no I/O, `major` ones did."""

    minor: int
    major: int


def pid_of(folder: Path, name: str) -> int | None:
    """The process id in libvirt's file for the guest of this name; None where there is none.

    The name is the guest owner's choice, so it is only ever used as a plain file name: nothing outside the folder is opened.
    """
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        return None
    try:
        with (folder / f"{name}.pid").open("rb") as file:
            text = file.read(_PID_FILE_BYTES).strip()
    except (OSError, ValueError):  # ValueError: a name that no file system can hold
        return None
    return int(text) or None if text.isdigit() and len(text) < 10 else None


def faults_of(proc: Path, pid: int) -> Faults | None:
    """What the kernel counted for this process; None when it is gone or cannot be read."""
    try:
        with (proc / str(pid) / "stat").open("rb") as file:
            text = file.read(_STAT_BYTES)
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold anything; after it come state (3) … minflt (10) … majflt (12).
    fields = text.rpartition(b")")[2].split()
    if len(fields) < 10 or not (fields[7].isdigit() and fields[9].isdigit()):
        return None
    return Faults(int(fields[7]), int(fields[9]))
