"""The plugin: the files that are read each cycle, and their findings for `mom doctor`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mom_core import Condition, FieldSpec, Finding, Hypervisor, PluginContext, Problem, Snapshot, Suggestion, Value, hookimpl
from mom_kvm import ColdMemoryControl, Pressure, late_hook, parse_number_list, read_kernel_file, read_meminfo
from mom_plugins_host.host import processes, readings
from mom_plugins_host.host.cpu_lists import read_text
from mom_plugins_host.host.findings import (
    conditions,
    cpu_lists_finding,
    memory_finding,
    pressure_finding,
    problems,
    swap_finding,
    watch_finding,
)
from mom_plugins_host.host.watch import HostSettings, HostWatch

WANTED = "mem_watermark_high"
"""The field in which a plugin that manages the host's memory says what should be available."""


class HostPlugin:
    """Collects the host's own figures: its memory, swap, huge pages, CPUs, load, pressure and time."""

    Settings = HostSettings

    def __init__(self, settings: HostSettings, context: PluginContext) -> None:
        self._context = context
        self._swap_activity = readings.SwapActivity()
        self._collected_kib: int | None = None
        self._watch = HostWatch(settings, context)
        self._processes = processes.OtherProcesses()

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits every Linux host."""
        if not (root / "proc/meminfo").exists():
            return None
        return Suggestion("this is a Linux host: memory, swap, CPU, pressure and time come from /proc", order=10)

    @hookimpl
    def mom_declare(self) -> Iterable[FieldSpec]:
        """All fields of this plugin; which of them have a value depends on the kernel."""
        return (*readings.FIELDS, *processes.FIELDS)

    @hookimpl
    def mom_setup(self) -> None:
        """Start to watch the host."""
        if self._watch.settings.watch:
            self._watch.start()

    @hookimpl
    def mom_teardown(self) -> None:
        """Watch no longer."""
        self._watch.stop()

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """All that can be read now; a file that is missing or malformed only costs its own fields."""
        fields: dict[str, Value] = {"page_size": readings.PAGE_KIB}
        root, meminfo = self._context.root, read_meminfo(self._context.root)
        fields.update(readings.memory_fields(meminfo))
        self._collected_kib = meminfo.get("MemTotal")

        if (kept := self._watch.lists.kept()) is not None:
            fields["mem_pcp_free"] = kept.total
        fields.update(self._swap_activity.fields(read_text(root / "proc/vmstat"), self._context.monotonic()))
        fields.update(readings.load_fields(read_text(root / "proc/loadavg")))
        fields["cpu_count"] = len(parse_number_list(read_text(root / "sys/devices/system/cpu/online")) or ()) or None
        for resource in readings.RESOURCES:
            told = Pressure.parse(read_kernel_file(root / "proc/pressure" / resource))
            fields.update(readings.pressure_fields(resource, told))
        fields.update(self._processes.fields)
        fields.update(readings.time_fields(time.time_ns()))
        return fields

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem | Condition]:
        """Report fields that policies lack, and processes that wait for memory; hand the watch the figures of policies."""
        known = snapshot.host.fields
        total, available, wanted = (snapshot.host.whole(name) for name in ("mem_available", "mem_really_available", WANTED))
        self._watch.saw(available, total, wanted, self._collected_kib)
        self._processes.see(snapshot, self._context.root / "proc")
        yield from problems(known, self._context.name, self._watch.why_not)
        yield from conditions(known)

    mom_status = late_hook("mom_daemon:StatusPart.of_memory", "report")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """See that memory, pressure and swap can be read, and how pressure is watched."""
        fields = self.mom_collect_host()
        lists, settings = self._watch.lists, self._watch.settings
        kept = cpu_lists_finding(lists.kept(), lists.why_not(), wanted=settings.take_back and settings.watch > 0)
        rest = [pressure_finding(fields), watch_finding(self._watch.how, self._watch.why_not)]
        if not isinstance(hypervisor, ColdMemoryControl):  # whose guests use the swap of this host
            rest.append(swap_finding(fields))
        return [memory_finding(fields), *([] if kept is None else [kept]), *rest]
