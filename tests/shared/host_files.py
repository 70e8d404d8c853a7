"""Files of simulated hosts: /proc/meminfo, and KSM's settings in /sys."""

from collections.abc import Mapping
from pathlib import Path

from mom_devkit import host_of

KSM: Mapping[str, int] = {
    "run": 0, "pages_to_scan": 100, "sleep_millisecs": 20, "merge_across_nodes": 1, "pages_shared": 0, "pages_sharing": 0, "full_scans": 0,
}  # fmt: skip


def meminfo(total: int = 8 << 20, available: int = 2 << 20, **more: int) -> str:
    """Return /proc/meminfo of a host with these KiB."""
    half = available // 2
    known = {"MemTotal": total, "MemFree": half, "MemAvailable": available, "Buffers": 0, "Cached": half, "AnonPages": total // 2}
    return "".join(f"{name}: {kib} kB\n" for name, kib in {**known, "Shmem": 0, "SwapTotal": 0, "SwapFree": 0, **more}.items())


def ksm_host(root: Path, files: Mapping[str, str] | None = None, **knobs: int) -> Path:
    """Write KSM's files and these other files."""
    written = {f"sys/kernel/mm/ksm/{name}": f"{value}\n" for name, value in {**KSM, **knobs}.items()}
    return host_of(root, {**written, "proc/meminfo": meminfo(), **(files or {})})
