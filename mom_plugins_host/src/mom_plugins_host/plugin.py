"""The plugin: which files are read each cycle, and what `mom doctor` says about them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mom_core import FieldSpec, Finding, PluginContext, PluginSettings, Severity, Suggestion, Value, hookimpl
from mom_plugins_host import clock, load, memory, pressure, swap
from mom_plugins_host.reading import read_text

_MEMINFO = "proc/meminfo"
_PSI_CURE = "boot the kernel with the parameter psi=1 (it needs Linux 4.20 or newer, built with CONFIG_PSI)"


class HostPlugin:
    """Collects what the host itself says about its memory, swap, huge pages, CPUs, load, pressure and time."""

    contract = "1.0"

    class Settings(PluginSettings):
        """There is nothing to set."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._root = context.root
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
            fields.update(self._swap_activity.fields(swap.parse_swap_counters(text), time.monotonic()))
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
    def mom_doctor(self) -> Iterable[Finding]:
        """Whether memory, pressure and swap can be read."""
        return (self._memory_finding(), self._pressure_finding(), self._swap_finding())

    def _memory_finding(self) -> Finding:
        fields = memory.memory_fields(memory.parse_meminfo(read_text(self._meminfo) or ""))
        missing = [name for name in ("mem_available", "mem_unused", "mem_really_available") if name not in fields]
        if not missing:
            return Finding(Severity.OK, "host memory", f"{self._meminfo} tells what is needed")
        cure = f"see that {self._meminfo.parent} is mounted and readable" if len(missing) > 1 else "use Linux 3.14 or newer"
        return Finding(Severity.ERROR, "host memory", f"{self._meminfo} does not tell {', '.join(missing)}: policies decide nothing", cure)

    def _pressure_finding(self) -> Finding:
        missing = [resource for resource, path in self._pressure if not pressure.pressure_fields(resource, read_text(path) or "")]
        if not missing:
            return Finding(Severity.OK, "host pressure (PSI)", "the kernel tells how long tasks wait for memory, CPU and I/O")
        message = f"no pressure of {', '.join(missing)}: policies cannot see how much the host suffers, only how much memory is free"
        return Finding(Severity.WARNING, "host pressure (PSI)", message, _PSI_CURE)

    def _swap_finding(self) -> Finding:
        total = swap.swap_space_fields(memory.parse_meminfo(read_text(self._meminfo) or "")).get("swap_total")
        if total == 0:
            message = "the host has no swap: when memory runs out faster than guests give it back, the kernel kills processes"
            return Finding(Severity.WARNING, "host swap", message, "add some swap as a safety net, or keep more memory free")
        if total is None:
            return Finding(Severity.WARNING, "host swap", f"{self._meminfo} does not tell how much swap there is")
        return Finding(Severity.OK, "host swap", f"{total // 1024:,} MiB of swap as a safety net")
