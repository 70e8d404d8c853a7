"""Findings, problems and conditions of the host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mom_core import Condition, Finding, Problem, Severity, Source, Value, format_kib
from mom_plugins_host.host.readings import RESOURCES

STALLED_PERCENT: Final = 60.0
"""mom warns when tasks wait for memory for this share of a minute. systemd-oomd kills at the same limit (DefaultMemoryPressureLimit)."""

PLENTY_SHARE: Final = 0.1
"""If at least this share of the host's memory is available, stalls come from the limit of a control group."""

_PSI_CURE: Final = "boot the kernel with the parameter psi=1 (it needs Linux 4.20 or newer, built with CONFIG_PSI)"
_ADD_SWAP: Final = (
    "add some swap as a safety net, best compressed: apt install systemd-zram-generator (dnf: zram-generator), write to"
    " /etc/systemd/zram-generator.conf the lines '[zram0]', 'zram-size = ram / 2', then: systemctl daemon-reload &&"
    " systemctl start systemd-zram-setup@zram0"
)


def problems(fields: Mapping[str, Value], plugin: str) -> Iterator[Problem]:
    """Yield problems: missing fields."""
    for finding in (memory_finding(fields), pressure_finding(fields)):
        if finding.severity is not Severity.OK:
            yield Problem(Source(plugin), finding.message, severity=Severity.WARNING, hint=finding.cure)


def conditions(fields: Mapping[str, Value]) -> Iterable[Condition]:
    """Yield a condition if processes wait for memory most of the time."""
    stalled, total, available = (fields.get(name) for name in ("psi_memory_some_avg60", "mem_available", "mem_really_available"))
    if not isinstance(stalled, int | float) or stalled < STALLED_PERCENT:
        return
    message = f"processes wait for memory {stalled:.0f} % of the time"
    if isinstance(total, int) and isinstance(available, int) and available >= PLENTY_SHARE * total:
        why = f"a control group has reached its limit (memory.max, memory.high); the host itself has {format_kib(available)} available"
        yield Condition("pressure", message, why, "find it with systemd-cgtop -m, and raise its limit", Severity.WARNING)
    else:
        yield Condition("memory", message, "", "stop programs that are not needed, move guests away, or add memory")


def memory_finding(fields: Mapping[str, Value]) -> Finding:
    """Return a finding: an error if the host's memory is unknown."""
    missing = [name for name in ("mem_available", "mem_unused", "mem_really_available") if fields.get(name) is None]
    if not missing:
        return Finding(Severity.OK, "host memory", "the kernel reports total and available memory")
    cure = "use Linux 3.14 or newer" if missing == ["mem_really_available"] else "check that /proc is mounted and /proc/meminfo is readable"
    return Finding(Severity.ERROR, "host memory", f"{', '.join(missing)} cannot be read: policies decide nothing", cure)


def pressure_finding(fields: Mapping[str, Value]) -> Finding:
    """Return a finding: a warning if pressure stall information is unknown."""
    missing = [resource for resource in RESOURCES if fields.get(f"psi_{resource}_some_avg10") is None]
    if not missing:
        return Finding(Severity.OK, "host pressure (PSI)", "the kernel reports pressure stall information for memory, CPU and I/O")
    message = (
        f"the kernel reports no pressure stall information for {', '.join(missing)}: policies see free memory, but not how long tasks wait"
    )
    return Finding(Severity.WARNING, "host pressure (PSI)", message, _PSI_CURE)


def swap_finding(fields: Mapping[str, Value]) -> Finding:
    """Return a finding: a warning if the host has no swap."""
    total = fields.get("swap_total")
    if isinstance(total, int) and total > 0:
        return Finding(Severity.OK, "host swap", f"{total // 1024:,} MiB of swap as a safety net")
    if total is None:
        return Finding(Severity.WARNING, "host swap", "the size of swap is unknown", "check that /proc/meminfo is readable")
    message = "the host has no swap: if memory runs out faster than guests release it, the kernel kills processes"
    return Finding(Severity.WARNING, "host swap", message, _ADD_SWAP)
