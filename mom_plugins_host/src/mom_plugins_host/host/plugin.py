"""Plugin `host`: reads kernel files, watches memory pressure between cycles, and reports problems of the host."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from mom_core import (
    Condition,
    FieldSpec,
    Finding,
    Hypervisor,
    PluginContext,
    Problem,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    Value,
    format_kib,
    hookimpl,
)
from mom_kvm import PAGE_KIB, Pressure, late_hook, parse_number_list, read_kernel_file, read_meminfo
from mom_plugins_host.capabilities import ColdMemoryControl
from mom_plugins_host.host import readings
from mom_plugins_host.host.watch import HostSettings, HostWatch

AVAILABLE_TARGET = "mem_watermark_high"
"""Field with the desired available memory, from the plugin that manages the host's memory."""


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


class HostPlugin:
    """Collector of host fields: memory, swap, huge pages, CPUs, load, pressure and time."""

    Settings = HostSettings

    def __init__(self, settings: HostSettings, context: PluginContext) -> None:
        self._context = context
        self._swap_activity = readings.SwapActivity()
        self._collected_kib: int | None = None
        self._watch = HostWatch(settings, context)
        self._processes = readings.OtherProcesses()

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if not (root / "proc/meminfo").exists():
            return None
        return Suggestion("this is a Linux host: memory, swap, CPU, pressure and time are read from /proc", order=10)

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        # Which fields have a value depends on the kernel's version.
        return readings.FIELDS

    @hookimpl
    def mom_setup(self) -> None:
        if self._watch.settings.watch:
            self._watch.start()

    @hookimpl
    def mom_teardown(self) -> None:
        self._watch.stop()

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        # If a file is malformed, only the fields from it are missing.
        root = self._context.root
        meminfo = read_meminfo(root)
        self._collected_kib = meminfo.get("MemTotal")
        fields: dict[str, Value] = {
            "page_size": PAGE_KIB,
            **readings.memory_fields(meminfo),
            **self._swap_activity.fields(_text(root / "proc/vmstat"), self._context.monotonic()),
            **readings.load_fields(_text(root / "proc/loadavg")),
            "cpu_count": len(parse_number_list(_text(root / "sys/devices/system/cpu/online")) or ()) or None,
            **self._processes.fields,
            **readings.time_fields(time.time_ns()),
        }
        for resource in readings.RESOURCES:
            fields.update(readings.pressure_fields(resource, Pressure.parse(read_kernel_file(root / "proc/pressure" / resource))))
        return fields

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem | Condition]:
        """Report problems, and pass the cycle's figures to the watch."""
        total, available, target = (snapshot.host.whole(name) for name in ("mem_available", "mem_really_available", AVAILABLE_TARGET))
        self._watch.update(available, total, target, self._collected_kib)
        self._processes.update(snapshot, self._context.root / "proc")
        yield from problems(snapshot.host.fields, self._context.name)
        yield from conditions(snapshot.host.fields)

    mom_status = late_hook("mom_daemon:StatusPart.of_memory", "report")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        fields = self.mom_collect_host()
        yield memory_finding(fields)
        yield pressure_finding(fields)
        yield Finding(Severity.OK, "host pressure watch", f"mom watches memory pressure {self._watch.how}")
        if not isinstance(hypervisor, ColdMemoryControl):  # simulated guests use another swap
            yield swap_finding(fields)


def _text(path: Path) -> str:
    return read_kernel_file(path).decode("ascii", "replace")


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
    missing = [resource for resource in readings.RESOURCES if fields.get(f"psi_{resource}_some_avg10") is None]
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
