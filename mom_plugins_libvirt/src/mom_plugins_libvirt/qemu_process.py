"""A guest's QEMU process as the host sees it: its process id from libvirt's pid file, its page faults from /proc."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

_PID_FILE_BYTES = 32
_STAT_BYTES = 4096
_COMMAND_BYTES = 256 << 10


class Faults(NamedTuple):
    """Page faults of a process since it was started: `minor` ones needed no I/O, `major` ones did."""

    minor: int
    major: int


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
    try:
        with (folder / f"{name}.pid").open("rb") as file:
            text = file.read(_PID_FILE_BYTES).strip()
    except (OSError, ValueError):  # ValueError: a name that no file system can hold
        return None
    return int(text) or None if text.isdigit() and len(text) < 10 else None


def _was_started_for(proc: Path, pid: int, uuid: str) -> bool:
    try:
        with (proc / str(pid) / "cmdline").open("rb") as file:
            arguments = file.read(_COMMAND_BYTES).split(b"\0")
    except OSError:
        return False
    return b"-uuid" in arguments and uuid.encode() in arguments


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
