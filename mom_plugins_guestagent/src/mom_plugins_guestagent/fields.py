"""Fields that agents report, named like those of libvirt."""

from __future__ import annotations

from mom_core import FieldSpec, Scope, Unit

REPORTING_ORDER, SHORT_LEFT, TRIMMED = "guest_reporting_order", "guest_short_left", "guest_trimmed"

REPORTING = "balloon_reporting"
HOST_STATE, PLENTY = "host_memory_state", "high"
"""Field of the balloon law, and its value while the host has enough memory."""

_MEMINFO, _VMSTAT, _PSI = "the guest's /proc/meminfo", "the guest's /proc/vmstat", "the guest's /proc/pressure/memory"


def _field(name: str, unit: Unit, description: str, source: str) -> FieldSpec:
    return FieldSpec(name, unit, Scope.GUEST, description, source)


_COLUMNS = (
    *((f"avg{seconds}", Unit.PERCENT, f"average of {seconds} s") for seconds in (10, 60, 300)),
    ("total", Unit.MICROSECONDS, "since the guest was booted"),
)
_KINDS = {"some": "at least one of the guest's tasks", "full": "all non-idle tasks of the guest"}
_FREE = "free memory, buffers and page cache of the guest (oVirt MOM's field; mem_usable is better)"
_KILLS = "OOM kills by the guest's kernel since boot"
_ORDER = "present order of free page reporting: the guest's kernel reports free blocks of 2^order pages and larger"
_SHORT = "time until the guest stops helping a host that is short of memory; unknown if the guest's owner allows no help"
_TRIMMED = "page cache that mom-guestd has dropped since its start, while the host was short of memory"
_LOAD = "load average of the guest over {} min, not divided by the number of CPUs"

STATISTICS = frozenset(
    {"mem_available", "mem_unused", "mem_usable", "mem_disk_caches", "swap_in", "swap_out", "major_fault", "minor_fault"}
)
"""Fields that a balloon driver also reports. An agent's older values must not appear beside the driver's `stats_age`."""

FIGURES = (
    _field("mem_available", Unit.KIB, "all memory that the guest's kernel manages", f"{_MEMINFO} MemTotal"),
    _field("mem_unused", Unit.KIB, "memory that the guest does not use", f"{_MEMINFO} MemFree"),
    _field("mem_usable", Unit.KIB, "memory that the guest can release without swapping", f"{_MEMINFO} MemAvailable"),
    _field("mem_disk_caches", Unit.KIB, "memory that the guest uses as disk cache", f"{_MEMINFO} Buffers + Cached + SwapCached"),
    _field("mem_free", Unit.KIB, _FREE, f"{_MEMINFO} MemFree + Buffers + Cached"),
    _field("swap_total", Unit.KIB, "total swap space of the guest", f"{_MEMINFO} SwapTotal"),
    _field("swap_usage", Unit.KIB, "used swap space of the guest", f"{_MEMINFO} SwapTotal - SwapFree"),
    _field("swap_in", Unit.KIB_PER_SECOND, "memory read back from the guest's swap", f"{_VMSTAT} pswpin"),
    _field("swap_out", Unit.KIB_PER_SECOND, "memory written to the guest's swap", f"{_VMSTAT} pswpout"),
    _field("major_fault", Unit.PER_SECOND, "page faults in the guest with I/O", f"{_VMSTAT} pgmajfault"),
    _field("minor_fault", Unit.PER_SECOND, "page faults in the guest without I/O", f"{_VMSTAT} pgfault - pgmajfault"),
    _field("guest_oom_kills", Unit.COUNT, _KILLS, f"{_VMSTAT} oom_kill"),
    *(
        _field(f"guest_psi_memory_{kind}_{column}", unit, f"time that {who} waited for memory, {over}", f"{_PSI} {kind} {column}")
        for column, unit, over in _COLUMNS
        for kind, who in _KINDS.items()
    ),
    *(
        _field(f"guest_load_{minutes}", Unit.RATIO, _LOAD.format(minutes), "the guest's /proc/loadavg, or guest-get-load")
        for minutes in (1, 5, 15)
    ),
    _field(REPORTING_ORDER, Unit.COUNT, _ORDER, "mom-guestd: page_reporting_order"),
    _field(SHORT_LEFT, Unit.SECONDS, _SHORT, "mom-guestd"),
    _field(TRIMMED, Unit.KIB, _TRIMMED, "mom-guestd"),
)
"""Statistics in agents' answers, there without the prefix `guest_`. mom converts counts since boot into rates per second."""

FIELDS = (
    *FIGURES,
    _field("guest_os", Unit.TEXT, "the guest's operating system, as the guest reports it", "guest-get-osinfo; mom-guestd's props"),
    _field("guest_kernel", Unit.TEXT, "the guest's kernel release, as the guest reports it", "guest-get-osinfo; mom-guestd's props"),
    _field("guest_agent", Unit.TEXT, "source of the last statistics: guestd-channel, guestd-tcp, agent-socket or agent-hypervisor", "mom"),
    _field("guest_agent_version", Unit.TEXT, "version of the agent in the guest", "guest-info; mom-guestd's props"),
    _field("guest_agent_age", Unit.SECONDS, "age of the last answer of the guest's agent", "mom"),
    _field("guest_agent_failures", Unit.COUNT, "rounds of queries that no agent in the guest answered, since the guest was started", "mom"),
    _field("guest_agent_untrusted", Unit.COUNT, "answers of the guest's agent that mom has rejected, completely or in part", "mom"),
    FieldSpec.reads(REPORTING, Unit.FLAG, Scope.GUEST),
    FieldSpec.reads(HOST_STATE, Unit.TEXT, Scope.HOST),
)
