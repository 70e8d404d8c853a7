"""What the plugin needs to know of the host: its memory, its free swap, and the numbers of its disks."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mom_plugins_cgroup.files import Files
from mom_plugins_cgroup.review import HostBounds
from mom_toolkit import parse_meminfo

_NUMBER = re.compile(r"\d{1,4}:\d{1,7}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._!-]*")


def memory_of(root: Path, files: Files) -> HostBounds:
    """The host's memory and free swap, from /proc/meminfo."""
    found = parse_meminfo(files.read(str(root / "proc/meminfo")) or b"")
    return HostBounds(found.get("MemTotal"), found.get("SwapFree"), os.sysconf("SC_PAGE_SIZE") >> 10)


def disk_number(root: Path, files: Files, name: str) -> str | None:
    """The number (`8:0`) of a disk that is given by its name or number; None when there is no such whole disk."""
    if _NUMBER.fullmatch(name):
        return name
    short = name.removeprefix("/dev/").replace("/", "!")  # as sysfs writes it
    folder = root / "sys/class/block" / short
    if not _NAME.fullmatch(short) or (folder / "partition").exists():
        return None
    number = (files.read(str(folder / "dev")) or b"").decode("ascii", "replace").strip()
    return number if _NUMBER.fullmatch(number) else None
