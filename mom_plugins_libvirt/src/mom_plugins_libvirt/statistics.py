"""From one record of libvirt's bulk statistics to fields: what is plausible, how old it is, and how fast the counters grow.

Pure: numbers in, numbers out. Nothing that a guest reports makes it raise, or gives a negative number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mom_core import Value

_LARGEST = 1 << 62
"""Above this a number is no size and no count: the balloon driver reports what it does not know as all ones."""

_MEMORY = {"mem_available": "available", "mem_unused": "unused", "mem_usable": "usable", "mem_disk_caches": "disk_caches"}
"""Fields in KiB, by their names in the `balloon` group."""

_COUNTERS = {"swap_in": "swap_in", "swap_out": "swap_out", "major_fault": "major_fault", "minor_fault": "minor_fault"}
"""Counters since the guest's boot (KiB, faults), whose growth per second is the field."""

_CLOCK_SLACK_SECONDS = 2.0
"""`last-update` counts whole seconds, and may be rounded up."""

_CPU_SECONDS = 0.5
"""CPU time may be counted in steps of 10 ms; over less than this, its growth says nothing."""

_NEVER_FRESH = 1e9
"""An age in seconds that nobody takes for fresh: thirty years."""

_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CpuReading:
    """CPU time in nanoseconds at a monotonic time, and what the guest used before that in percent of one CPU, if that is known."""

    looked: float
    time_ns: int
    usage: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at a guest leaves behind for the next.

    `looked` is when that was, in monotonic seconds. `updated` is `last-update`, in seconds since the epoch; `seen` is when it was first
    seen, in monotonic seconds, and `age_then` how old it was at that moment. `counters` and `rates` are of that time, too.
    """

    looked: float
    updated: int = 0
    seen: float = 0.0
    age_then: float = 0.0
    counters: Mapping[str, int] = field(default_factory=lambda: _NONE)
    rates: Mapping[str, float] = field(default_factory=dict)
    cpu: CpuReading | None = None

    def age(self, monotonic: float) -> float | None:
        """Seconds since the guest's own statistics were made; None if there were never any."""
        return max(0.0, monotonic - self.seen) + self.age_then if self.updated else None


def convert(
    record: Mapping[str, object], previous: Reading | None, *, wall: float, monotonic: float, stale_after: float
) -> tuple[dict[str, Value], Reading]:
    """The fields in one record, and what to hand in as `previous` next time.

    :param record: as `getAllDomainStats` gives it, whole or partial
    :param previous: of the same guest since it was started; None at the first look
    :param wall: now, in seconds since the epoch; needed for the first look only, so that a clock that jumps later does no harm
    :param monotonic: now, on a clock that never jumps
    :param stale_after: the age in seconds from which on what the guest itself reported is left out
    """
    reading = _next_reading(record, previous, wall, monotonic)
    fields: dict[str, Value] = {}
    _put(fields, "balloon_cur", _number(record, "balloon.current"))
    maximum = _number(record, "balloon.maximum")
    _put(fields, "balloon_max", maximum)
    _put(fields, "rss", _number(record, "balloon.rss"))
    _put(fields, "vcpu_count", _number(record, "vcpu.current"))
    _put(fields, "cpu_usage", reading.cpu.usage if reading.cpu else None)
    age = reading.age(monotonic)
    _put(fields, "stats_age", None if age is None else round(age, 3))
    if age is not None and age <= stale_after and _number(record, "balloon.last-update"):
        fields.update(_memory(record, maximum))
        fields.update(reading.rates)
    return fields, reading


def _next_reading(record: Mapping[str, object], previous: Reading | None, wall: float, monotonic: float) -> Reading:
    cpu = _next_cpu_reading(_number(record, "cpu.time"), previous.cpu if previous else None, monotonic)
    updated = _number(record, "balloon.last-update") or 0
    if not updated and previous is not None and previous.updated:  # a partial record: the guest was busy
        return Reading(monotonic, previous.updated, previous.seen, previous.age_then, previous.counters, previous.rates, cpu)
    if not updated:
        return Reading(monotonic, cpu=cpu)
    if previous is not None and previous.updated == updated:
        return Reading(monotonic, updated, previous.seen, previous.age_then, previous.counters, previous.rates, cpu)
    counters = {name: count for name, key in _COUNTERS.items() if (count := _number(record, f"balloon.{key}")) is not None}
    rates = {} if previous is None else _rates(previous.counters, counters, updated - previous.updated)
    return Reading(monotonic, updated, monotonic, _age_at_first_sight(updated, previous, wall, monotonic), counters, rates, cpu)


def _age_at_first_sight(updated: int, previous: Reading | None, wall: float, monotonic: float) -> float:
    """How old new statistics are when they are first seen.

    What was not there at the last look is no older than that look, whatever the wall clock says: it may have jumped, or be another
    machine's. Only the first look of all has to believe it, and takes statistics from the future for infinitely old.
    """
    age = wall - updated
    if previous is not None:
        return min(max(age, 0.0), max(0.0, monotonic - previous.looked))
    return max(age, 0.0) if age >= -_CLOCK_SLACK_SECONDS else _NEVER_FRESH


def _rates(before: Mapping[str, int], after: Mapping[str, int], seconds: int) -> dict[str, float]:
    """Growth per second; unknown where a counter went back, as it does when the guest reboots, and when the clock did."""
    if seconds <= 0:
        return {}
    return {name: (after[name] - before[name]) / seconds for name in after if name in before and after[name] >= before[name]}


def _memory(record: Mapping[str, object], maximum: int | None) -> dict[str, Value]:
    """What the guest says about its memory, without what cannot be: more than it has."""
    known = {name: number for name, key in _MEMORY.items() if (number := _number(record, f"balloon.{key}")) is not None}
    limit = min(_LARGEST if maximum is None else maximum, known.get("mem_available", _LARGEST))
    return {name: number for name, number in known.items() if number <= limit}


def _next_cpu_reading(time_ns: int | None, previous: CpuReading | None, monotonic: float) -> CpuReading | None:
    if time_ns is None:
        return None
    if previous is None or time_ns < previous.time_ns:
        return CpuReading(monotonic, time_ns)
    seconds = monotonic - previous.looked
    if seconds < _CPU_SECONDS:
        return previous
    return CpuReading(monotonic, time_ns, round((time_ns - previous.time_ns) / seconds / 1e7, 2))


def _number(record: Mapping[str, object], key: str) -> int | None:
    value = record.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST else None


def _put(fields: dict[str, Value], name: str, value: float | None) -> None:
    if value is not None:
        fields[name] = value
