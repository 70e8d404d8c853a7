"""Fields from the host's /proc."""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from mom_core import FieldSpec, Scope, Snapshot, Unit, Value, format_kib, printable
from mom_kvm import PAGE_KIB, Pressure, ProcessStat, pid_of, read_kernel_file

HARD: Final = "mem_watermark_hard"
"""Field with the available memory below which guests give up their margins."""

SHORT_SHARE: Final = 0.1
"""A host without watermarks is short of memory if less than this share of its memory is available."""

EARLY: Final = 2.0
"""mom reads processes if available memory is below this multiple of the hard watermark."""

LOOK_SECONDS: Final = 10.0
"""Time between two readings of processes."""

MOST: Final = 20_000
"""Maximum number of processes to read, lowest PIDs first, so that a fork bomb does not block the plugin."""

NAMED: Final = 3
NAMED_KIB: Final = 64 << 10
"""`largest_processes` names at most `NAMED` processes with at least this memory."""

PROCESS_FIELDS: Final = (
    FieldSpec(
        "mem_other_processes", Unit.KIB, Scope.HOST, "anonymous memory of processes other than guests, while the host is short of memory",
        "/proc/PID/statm", FieldSpec.Metric.NONE,
    ),
    FieldSpec(
        "largest_processes", Unit.TEXT, Scope.HOST, "largest processes other than guests, with their memory",
        "/proc/PID/statm, /proc/PID/comm",
    ),
)  # fmt: skip


class OtherProcesses:
    """Last reading of processes other than guests. `fields` is empty unless the host is short of memory."""

    def __init__(self) -> None:
        self.fields: Mapping[str, Value] = {}
        self._last: Mapping[str, Value] = {}
        self._read_at = -math.inf

    def update(self, snapshot: Snapshot, proc: Path) -> None:
        """Read processes if memory is short and the last reading is old."""
        is_short = _is_short(snapshot)
        if is_short and snapshot.monotonic - self._read_at >= LOOK_SECONDS:
            guests = {pid for guest in snapshot.listed if (pid := pid_of(guest)) is not None}
            self._last, self._read_at = other_processes(proc, guests), snapshot.monotonic
        self.fields = self._last if is_short else {}


def other_processes(proc: Path, guests: Collection[int]) -> Mapping[str, Value]:
    """Return fields of all processes except `guests`, the PIDs of QEMU processes."""
    total, by_name = 0, Counter[str]()
    for pid in (ProcessStat.ids(proc) or ())[:MOST]:
        if pid in guests:
            continue
        kib = _anonymous_kib(read_kernel_file(f"{proc}/{pid}/statm"))
        total += kib
        if kib >= NAMED_KIB:
            name = os.fsdecode(read_kernel_file(f"{proc}/{pid}/comm")).rstrip("\n")
            by_name[printable(name) or str(pid)] += kib
    named = ", ".join(f"{name} {format_kib(kib)}" for name, kib in by_name.most_common(NAMED))
    return {"mem_other_processes": total, "largest_processes": named} if total else {}


def _anonymous_kib(statm: bytes) -> int:
    _, resident, shared, *_ = (*statm.split(), b"", b"", b"")
    return max(0, int(resident) - int(shared)) * PAGE_KIB if resident.isdigit() and shared.isdigit() else 0


def _is_short(snapshot: Snapshot) -> bool:
    total, available, hard = (snapshot.host.number(name) for name in ("mem_available", "mem_really_available", HARD))
    if total is None or available is None:
        return False
    return available < (SHORT_SHARE * total if hard is None else EARLY * hard)


def _field(name: str, unit: Unit, description: str, source: str, metric: FieldSpec.Metric = FieldSpec.Metric.GAUGE) -> FieldSpec:
    return FieldSpec(name, unit, Scope.HOST, description, source, metric)


# --- memory ----------------------------------------------------------------------------------------------------------------------

_MEMINFO: Final = (
    ("mem_available", "MemTotal", Unit.KIB, "all memory of the host (MOM's name; mem_really_available is the available memory)"),
    ("mem_unused", "MemFree", Unit.KIB, "memory that is completely unused"),
    ("mem_really_available", "MemAvailable", Unit.KIB, "memory available to new processes without swapping, as the kernel estimates"),
    ("mem_cached", "Cached", Unit.KIB, "page cache, with shared memory and tmpfs"),
    ("mem_shmem", "Shmem", Unit.KIB, "shared memory and tmpfs: counted in mem_cached, and cannot be dropped, only swapped"),
    ("anon_pages", "AnonPages", Unit.KIB, "anonymous memory that is mapped into processes, such as that of guests"),
    ("hugepages_total", "HugePages_Total", Unit.COUNT, "huge pages of the default size in the pool"),
    ("hugepages_free", "HugePages_Free", Unit.COUNT, "huge pages of the default size that are not allocated"),
    ("hugepage_size", "Hugepagesize", Unit.KIB, "the default size of huge pages"),
)

_FREE: Final = "memory that is unused or holds buffers and cache (MOM's name; counts shared memory as free, so prefer mem_really_available)"


def memory_fields(meminfo: Mapping[str, int]) -> dict[str, int]:
    """Return fields of memory, huge pages and swap, without impossible values."""
    fields = {name: meminfo[key] for name, key, _, _ in _MEMINFO if key in meminfo}
    if fields.get("mem_available") == 0:
        del fields["mem_available"]  # the file is broken, and policies divide by the total
    if {"MemFree", "Buffers", "Cached"} <= meminfo.keys():
        fields["mem_free"] = meminfo["MemFree"] + meminfo["Buffers"] + meminfo["Cached"]
    total, free = meminfo.get("SwapTotal"), meminfo.get("SwapFree")
    if total is not None:
        fields["swap_total"] = total
        if free is not None and free <= total:
            fields["swap_usage"] = total - free
    return fields


# --- swap ------------------------------------------------------------------------------------------------------------------------

_COUNTERS: Final = (("swap_in", "pswpin", "read back from"), ("swap_out", "pswpout", "written to"))
_COUNTER: Final = re.compile(r"^(pswpin|pswpout) ([0-9]{1,20})$", re.MULTILINE)


class SwapActivity:
    """Swap counters of /proc/vmstat, as rates between two samples."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}

    def fields(self, vmstat: str, now: float) -> dict[str, int | float]:
        """Return `swap_in` and `swap_out` (pages) and their `_rate` (pages/s). A counter that is new or has decreased gives no field."""
        counts = {name: int(number) for name, number in _COUNTER.findall(vmstat)}
        fields: dict[str, int | float] = {}
        for name, counter, _ in _COUNTERS:
            if (count := counts.get(counter)) is None:
                continue
            before, since = self._last.get(counter, (count + 1, now))  # a new counter gives no field
            self._last[counter] = (count, now)
            if count >= before:
                fields[name] = count - before
                if now > since:
                    fields[f"{name}_rate"] = (count - before) / (now - since)
        return fields


# --- load ------------------------------------------------------------------------------------------------------------------------

_LOAD: Final = re.compile(r"([0-9]{1,9}\.[0-9]{1,4}) ([0-9]{1,9}\.[0-9]{1,4}) ([0-9]{1,9}\.[0-9]{1,4}) ")
_LOADS: Final = ("load_1", "load_5", "load_15")


def load_fields(loadavg: str) -> dict[str, float]:
    """Return the load averages; empty for malformed text."""
    match = _LOAD.match(loadavg)
    return {} if match is None else dict(zip(_LOADS, map(float, match.groups()), strict=True))


# --- pressure --------------------------------------------------------------------------------------------------------------------

RESOURCES: Final = {"memory": "memory", "cpu": "CPU", "io": "I/O"}
_KINDS: Final = {"some": "at least one task", "full": "all tasks that were not idle"}
_AVERAGES: Final = (10, 60, 300)  # seconds, as the kernel keeps them


def _pressure_specs(resource: str, kind: str) -> Iterator[FieldSpec]:
    # The kernel has no "full" for the CPU of a whole host; since 5.13 it writes zeros there.
    remark = " (always 0 for a whole host)" if (resource, kind) == ("cpu", "full") else ""
    source, name = f"/proc/pressure/{resource} {kind}", f"psi_{resource}_{kind}"
    waited = f"time that {_KINDS[kind]} waited for {RESOURCES[resource]}"
    for seconds in _AVERAGES:
        yield _field(f"{name}_avg{seconds}", Unit.PERCENT, f"{waited}, average of {seconds} s{remark}", f"{source} avg{seconds}")
    yield _field(
        f"{name}_total", Unit.MICROSECONDS, f"{waited}, since the host started{remark}", f"{source} total", FieldSpec.Metric.COUNTER
    )


def pressure_fields(resource: str, kinds: Mapping[str, Pressure]) -> dict[str, int | float]:
    """Return a resource's averages (%) and totals (µs)."""
    names = [*(f"avg{seconds}" for seconds in _AVERAGES), "total"]
    return {f"psi_{resource}_{kind}_{name}": value for kind, values in kinds.items() for name, value in zip(names, values, strict=True)}


# --- time ------------------------------------------------------------------------------------------------------------------------

_TIMES: Final = {
    **dict.fromkeys(("year", "month", "day", "hour", "minute"), Unit.COUNT),
    "second": Unit.SECONDS,
    "microsecond": Unit.MICROSECONDS,
}


def time_fields(nanoseconds: int) -> dict[str, int]:
    """Return the fields of local time. `nanoseconds` count from the epoch."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    local = time.localtime(seconds)
    # tm_sec reaches 61 for leap seconds, which Linux does not show; policies compare with 59.
    parts = (local.tm_year, local.tm_mon, local.tm_mday, local.tm_hour, local.tm_min, min(local.tm_sec, 59), fraction // 1000)
    return {f"time_{name}": part for name, part in zip(_TIMES, parts, strict=True)}


FIELDS: Final = (
    *(_field(name, unit, description, f"/proc/meminfo {key}") for name, key, unit, description in _MEMINFO),
    _field("mem_free", Unit.KIB, _FREE, "/proc/meminfo MemFree + Buffers + Cached"),
    _field("page_size", Unit.KIB, "page size: the unit of swap and KSM counters", "sysconf(_SC_PAGE_SIZE)"),
    _field("swap_total", Unit.KIB, "size of active swap", "/proc/meminfo SwapTotal"),
    _field("swap_usage", Unit.KIB, "used swap", "/proc/meminfo SwapTotal - SwapFree"),
    *(
        _field(name, Unit.PAGES, f"pages {verb} swap since the last sample", f"/proc/vmstat {counter}", FieldSpec.Metric.NONE)
        for name, counter, verb in _COUNTERS
    ),
    *(
        _field(f"{name}_rate", Unit.PAGES_PER_SECOND, f"pages {verb} swap a second", f"/proc/vmstat {counter}")
        for name, counter, verb in _COUNTERS
    ),
    _field("cpu_count", Unit.COUNT, "CPUs that are online", "/sys/devices/system/cpu/online"),
    *(
        _field(name, Unit.RATIO, f"tasks that run or wait for a CPU, average of {minutes} min, not divided by CPUs", "/proc/loadavg")
        for name, minutes in zip(_LOADS, (1, 5, 15), strict=True)
    ),
    *(spec for resource in RESOURCES for kind in _KINDS for spec in _pressure_specs(resource, kind)),
    *(_field(f"time_{name}", unit, f"local time: {name}", "the system clock", FieldSpec.Metric.NONE) for name, unit in _TIMES.items()),
    *PROCESS_FIELDS,
)
