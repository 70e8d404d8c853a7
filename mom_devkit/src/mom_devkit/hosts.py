"""Test hosts as folders of files, for a plugin's `context.root`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from mom_core import read_file

USUAL: Final = (
    "proc/meminfo proc/vmstat proc/stat proc/loadavg proc/uptime proc/swaps proc/zoneinfo proc/buddyinfo proc/cpuinfo proc/mounts "
    "proc/pressure/* proc/sys/vm/* proc/sys/kernel/numa_balancing proc/sys/kernel/osrelease "
    "sys/kernel/mm/ksm/* sys/kernel/mm/transparent_hugepage/* sys/kernel/mm/transparent_hugepage/khugepaged/* sys/kernel/mm/lru_gen/* "
    "sys/module/zswap/parameters/* sys/block/zram*/mm_stat sys/devices/system/node/* sys/devices/system/node/node*/* "
    "sys/devices/system/cpu/online sys/devices/system/cpu/possible sys/fs/cgroup/cgroup.controllers"
)
"""Patterns of the files that plugins for memory usually read."""

LONGEST_BYTES: Final = 1 << 20


def mirror_host(folder: Path) -> Path:
    """Copy this host's usual files of /proc and /sys into a folder. Make them writable; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in USUAL.split():
        for path in sorted(Path("/").glob(pattern)):
            with suppress(OSError):  # skip folders, write-only files, and files of other hardware
                content = read_file(path, LONGEST_BYTES)
                if len(content) <= LONGEST_BYTES:
                    target = folder / path.relative_to("/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
    return folder


def host_of(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files, keyed by paths such as `proc/sys/vm/swappiness`, into a folder. Return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder
