"""The plugin: which files are read each cycle, and what `mom doctor` says about them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mom_core import (
    Decision,
    FieldSpec,
    Finding,
    PluginContext,
    PluginSettings,
    Problem,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    Value,
    hookimpl,
)
from mom_plugins_host import clock, load, memory, pressure, swap
from mom_plugins_host.findings import memory_finding, pressure_finding, swap_finding
from mom_plugins_host.reading import read_text

_MEMINFO = "proc/meminfo"


class HostPlugin:
    """Collects what the host itself says about its memory, swap, huge pages, CPUs, load, pressure and time."""

    contract = "1.1"

    class Settings(PluginSettings):
        """There is nothing to set."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._context = context
        self._meminfo = context.root / _MEMINFO
        self._vmstat = context.root / "proc/vmstat"
        self._loadavg = context.root / "proc/loadavg"
        self._cpus = context.root / "sys/devices/system/cpu/online"
        self._pressure = tuple((resource, context.root / "proc/pressure" / resource) for resource in pressure.RESOURCES)
        self._swap_activity = swap.SwapActivity()

    @classmethod
    def suggest(cls, root: Path) -> Suggestion | None:
        """Fits every Linux host."""
        if not (root / _MEMINFO).exists():
            return None
        return Suggestion("this is a Linux host: memory, swap, CPU, pressure and time come from /proc")

    @hookimpl
    def mom_fields(self) -> Iterable[FieldSpec]:
        """All fields of this plugin; which of them have a value depends on the kernel."""
        return (*memory.FIELDS, *swap.FIELDS, *load.FIELDS, *pressure.FIELDS, *clock.FIELDS)

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """What can be read now; a file that is missing or malformed only costs its own fields."""
        fields: dict[str, Value] = {}
        if (text := read_text(self._meminfo)) is not None:
            meminfo = memory.parse_meminfo(text)
            fields.update(memory.memory_fields(meminfo))
            fields.update(swap.swap_space_fields(meminfo))
        if (text := read_text(self._vmstat)) is not None:
            fields.update(self._swap_activity.fields(swap.parse_swap_counters(text), self._context.monotonic()))
        if (text := read_text(self._loadavg)) is not None:
            fields.update(load.load_fields(text))
        if (text := read_text(self._cpus)) is not None:
            fields["cpu_count"] = load.count_cpus(text)
        for resource, path in self._pressure:
            if (text := read_text(path)) is not None:
                fields.update(pressure.pressure_fields(resource, text))
        fields.update(clock.time_fields(time.time_ns()))
        return fields

    @hookimpl
    def mom_evaluate(self, snapshot: Snapshot) -> Iterable[Decision | Problem]:
        """Decides nothing, but says each cycle what policies have to do without."""
        findings = (memory_finding(snapshot.host.fields), pressure_finding(snapshot.host.fields))
        return [
            Problem(Source(self._context.name), finding.message, severity=Severity.WARNING, hint=finding.cure)
            for finding in findings
            if finding.severity is not Severity.OK
        ]

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        """Whether memory, pressure and swap can be read."""
        fields = self.mom_collect_host()
        return [memory_finding(fields), pressure_finding(fields), swap_finding(fields)]
