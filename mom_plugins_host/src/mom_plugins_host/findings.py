"""What this host does not tell, judged by the fields themselves, each with its cure."""

from __future__ import annotations

from collections.abc import Mapping

from mom_core import Finding, Severity, Value
from mom_plugins_host.pressure import RESOURCES

_PSI_CURE = "boot the kernel with the parameter psi=1 (it needs Linux 4.20 or newer, built with CONFIG_PSI)"


def memory_finding(fields: Mapping[str, Value]) -> Finding:
    """Whether the host's memory is known."""
    missing = [name for name in ("mem_available", "mem_unused", "mem_really_available") if fields.get(name) is None]
    if not missing:
        return Finding(Severity.OK, "host memory", "the kernel tells how much there is, and how much is available")
    cure = "use Linux 3.14 or newer" if missing == ["mem_really_available"] else "see that /proc is mounted and /proc/meminfo is readable"
    return Finding(Severity.ERROR, "host memory", f"{', '.join(missing)} cannot be read: policies decide nothing", cure)


def pressure_finding(fields: Mapping[str, Value]) -> Finding:
    """Whether pressure stall information is known."""
    missing = [resource for resource in RESOURCES if fields.get(f"psi_{resource}_some_avg10") is None]
    if not missing:
        return Finding(Severity.OK, "host pressure (PSI)", "the kernel tells how long tasks wait for memory, CPU and I/O")
    message = f"no pressure of {', '.join(missing)}: policies see how much memory is free, but not how much the host suffers"
    return Finding(Severity.WARNING, "host pressure (PSI)", message, _PSI_CURE)


def watch_finding(how: str) -> Finding:
    """How memory pressure wakes mom between two cycles."""
    return Finding(Severity.OK, "host pressure watch", f"the host is watched {how}")


def swap_finding(fields: Mapping[str, Value]) -> Finding:
    """Whether there is swap to fall back on."""
    total = fields.get("swap_total")
    if isinstance(total, int) and total > 0:
        return Finding(Severity.OK, "host swap", f"{total // 1024:,} MiB of swap as a safety net")
    if total is None:
        return Finding(Severity.WARNING, "host swap", "how much swap there is cannot be read", "see that /proc/meminfo is readable")
    message = "the host has no swap: when memory runs out faster than guests give it back, the kernel kills processes"
    return Finding(Severity.WARNING, "host swap", message, "add some swap as a safety net, or keep more memory free")
