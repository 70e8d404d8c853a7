"""Fields that agents report, named like those of libvirt, and the filter of implausible statistics.

Whatever an agent answers, the filter raises nothing, and its results are finite and not negative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mom_core import FieldSpec, Scope, Unit, Value

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

_LARGEST: Final = 1 << 50
"""Limit in KiB (1 EiB): no guest has that much memory or swap."""

_LARGEST_COUNT: Final = 1 << 62
_MOST: Final = {Unit.PERCENT: 100.0, Unit.RATIO: 1e6}
"""Limits, keyed by unit. No guest has a million running tasks."""

_MOST_GROWTH: Final = {Unit.KIB_PER_SECOND: 1 << 30, Unit.PER_SECOND: 1e10}
"""Limits for rates. No machine swaps 1 TiB/s."""

_GROWTH_OF: Final = {spec.name: _MOST_GROWTH[spec.unit] for spec in FIGURES if spec.unit in _MOST_GROWTH}

_LEAST_SECONDS: Final = 0.5
"""Shortest time between two samples for a reliable rate."""

_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class AgentSample:
    """Plausible statistics of a guest at one moment."""

    monotonic: float
    fields: Mapping[str, Value] = field(default_factory=dict)
    counts: Mapping[str, float] = field(default_factory=dict)
    """Counts since boot. The fields of the next sample contain rates, computed from the growth of these counts."""
    lies: tuple[str, ...] = ()
    """Faults of the answer, described without any number or string from the guest."""


def judge(said: Mapping[str, object], monotonic: float, previous: AgentSample | None = None, maximum_kib: int | None = None) -> AgentSample:
    """Return the plausible part of an answer.

    :param said: the agent's numbers, or strings of digits, keyed by name; unknown names are ignored
    :param previous: last sample of the same incarnation
    :param maximum_kib: largest memory according to the hypervisor; None if unknown
    """
    lies: list[str] = []
    numbers: dict[str, float] = {}
    for spec in FIGURES:
        name = spec.name.removeprefix("guest_")
        if name in said:
            number = _number(said[name])
            if number is None or not 0 <= number <= _MOST.get(spec.unit, _LARGEST_COUNT):
                lies.append(f"{name} is not a plausible number")
            else:
                numbers[spec.name] = number if spec.unit in _MOST else int(number)
    counts = {name: numbers.pop(name) for name in _GROWTH_OF if name in numbers}
    # If sizes contradict each other, any of them may be wrong: drop all.
    for kind, lie in (("mem_", _lie_of_memory(numbers, maximum_kib)), ("swap_", _lie_of_swap(numbers))):
        if lie:
            lies.append(lie)
            numbers = {name: number for name, number in numbers.items() if not name.startswith(kind)}
    growth = {} if previous is None else _growth(previous, counts, monotonic)
    if any(rate > _GROWTH_OF[name] for name, rate in growth.items()):
        lies.append("the guest's counters grow faster than is possible")
        growth = {}
    return AgentSample(monotonic, {**numbers, **growth}, counts, tuple(lies))


def _number(value: object) -> float | None:
    if isinstance(value, str):
        if not value.isascii() or not _NUMBER.fullmatch(value):
            return None
        value = float(value) if "." in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if -_LARGEST_COUNT < value < _LARGEST_COUNT else None


def _lie_of_memory(numbers: Mapping[str, float], maximum_kib: int | None) -> str:
    sizes = {name: size for name, size in numbers.items() if name.startswith("mem_")}
    total = sizes.get("mem_available", 0)
    if not sizes:
        return ""
    if not 0 < total < _LARGEST:
        return "the agent reports no valid total of the guest's memory"
    if maximum_kib is not None and total > maximum_kib:
        return "the agent reports more memory than the guest's maximum"
    if above := [name for name, size in sizes.items() if size > total]:
        return f"{above[0]} is larger than the guest's total memory"
    return "mem_unused is larger than mem_free" if sizes.get("mem_free", total) < sizes.get("mem_unused", 0) else ""


def _lie_of_swap(numbers: Mapping[str, float]) -> str:
    total = numbers.get("swap_total", 0)
    return "the guest's swap statistics are impossibly large" if total >= _LARGEST or numbers.get("swap_usage", 0) > total else ""


def _growth(previous: AgentSample, counts: Mapping[str, float], monotonic: float) -> dict[str, float]:
    # If a count has decreased, as after a reboot, there are no rates.
    seconds, before = monotonic - previous.monotonic, previous.counts
    if seconds < _LEAST_SECONDS or any(count < before.get(name, 0) for name, count in counts.items()):
        return {}
    return {name: round((count - before[name]) / seconds, 3) for name, count in counts.items() if name in before}
