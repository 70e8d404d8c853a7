"""Search for a guest's QEMU process through libvirt's pid file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mom_kvm import read_kernel_file

_PID_FILE_BYTES = 32
_COMMAND_BYTES = 256 << 10

_AS_IN_XML: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})
"""XML escapes. The standard library's `escape` is slow to import."""


def pid_of(folder: Path, proc: Path, name: str, uuid: str) -> int | None:
    """Return the PID of the guest's QEMU process. Return None unless a process with the UUID in its command line is found."""
    for file_name in dict.fromkeys((name, name.translate(_AS_IN_XML))):
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
