"""Plugin `host`: reads kernel files, and watches memory pressure between cycles."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mom_core import Condition, FieldSpec, Finding, Hypervisor, PluginContext, Problem, Severity, Snapshot, Suggestion, Value, hookimpl
from mom_kvm import PAGE_KIB, Pressure, late_hook, parse_number_list, read_kernel_file, read_meminfo
from mom_plugins_host.capabilities import ColdMemoryControl
from mom_plugins_host.host import findings, readings
from mom_plugins_host.host.cpu_lists import read_text
from mom_plugins_host.host.watch import HostSettings, HostWatch

AVAILABLE_TARGET = "mem_watermark_high"
"""Field with the desired available memory, from the plugin that manages the host's memory."""


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
        meminfo, kept = read_meminfo(root), self._watch.lists.kept()
        self._collected_kib = meminfo.get("MemTotal")
        fields: dict[str, Value] = {
            "page_size": PAGE_KIB,
            **readings.memory_fields(meminfo),
            **self._swap_activity.fields(read_text(root / "proc/vmstat"), self._context.monotonic()),
            **readings.load_fields(read_text(root / "proc/loadavg")),
            "cpu_count": len(parse_number_list(read_text(root / "sys/devices/system/cpu/online")) or ()) or None,
            **self._processes.fields,
            **readings.time_fields(time.time_ns()),
        }
        if kept is not None:
            fields["mem_pcp_free"] = kept.total
        for resource in readings.RESOURCES:
            fields.update(readings.pressure_fields(resource, Pressure.parse(read_kernel_file(root / "proc/pressure" / resource))))
        return fields

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem | Condition]:
        """Report problems, and pass the cycle's figures to the watch."""
        total, available, target = (snapshot.host.whole(name) for name in ("mem_available", "mem_really_available", AVAILABLE_TARGET))
        self._watch.update(available, total, target, self._collected_kib)
        self._processes.update(snapshot, self._context.root / "proc")
        yield from findings.problems(snapshot.host.fields, self._context.name)
        yield from findings.conditions(snapshot.host.fields)

    mom_status = late_hook("mom_daemon:StatusPart.of_memory", "report")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        fields = self.mom_collect_host()
        yield findings.memory_finding(fields)
        yield findings.pressure_finding(fields)
        yield Finding(Severity.OK, "host pressure watch", f"mom watches memory pressure {self._watch.how}")
        if not isinstance(hypervisor, ColdMemoryControl):  # simulated guests use another swap
            yield findings.swap_finding(fields)
