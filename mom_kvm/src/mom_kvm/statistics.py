"""From a guest's records to fields: what is plausible, how old it is, and how fast counters grow.

Pure: numbers in, numbers out. Nothing that a guest reports raises an error, or results in an impossible number.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from mom_core import Value
from mom_kvm.fields import COUNTERS, MEMORY, GuestField

Record: TypeAlias = Mapping[str, object]
"""Record of a guest at one moment, by libvirt's names: sizes in KiB, `cpu.time` in ns, `balloon.last-update` in seconds since the epoch."""

_LARGEST = 1 << 62
"""Larger numbers are no sizes or counts."""

_ALL_ONES = (1 << 64) - 1
"""The balloon driver's value for unknown, and no lie."""

_FASTEST = 1 << 30
"""Impossible growth per second: 1 TiB of swap, or a billion faults."""

_CLOCK_SLACK_SECONDS = 2.0
"""`last-update` counts whole seconds, and may be rounded up."""

_SHORTEST_SECONDS = 0.5
"""Growth over less time means nothing: CPU time may be counted in steps of 10 ms, and balloons move in bursts."""

_NEVER_FRESH = 1e9
"""Age in seconds that is always stale: thirty years."""

_NONE: Mapping[str, int] = MappingProxyType({})


class GrowthRate(NamedTuple):
    """Value at a monotonic time, and its growth per second since an earlier look; None: unknown."""

    looked: float | None = None
    counted: float | None = None
    per_second: float | None = None

    def until(self, counted: float | None, now: float, *, falls: bool = False) -> GrowthRate:
        """Return the growth until now.

        :param falls: the value may fall; otherwise a fall means a restarted counter, and an unknown rate
        """
        seconds = _SHORTEST_SECONDS if self.looked is None else now - self.looked
        if seconds < _SHORTEST_SECONDS:
            return self
        if counted is None or self.counted is None or (counted < self.counted and not falls):
            return GrowthRate(now, counted)
        return GrowthRate(now, counted, (counted - self.counted) / seconds)

    @property
    def percent(self) -> float | None:
        """Percent of the time, for a counter of seconds."""
        return None if self.per_second is None else round(self.per_second * 100, 2)


UNKNOWN_RATE = GrowthRate()
"""Rate before the first look."""


class Reading(NamedTuple):
    """Memory of one look at a guest, for the next.

    `looked` is the monotonic time of the last record with a `last-update`, even 0 (no statistics yet); None: none. `updated` is
    `last-update`, in seconds since the epoch; `seen` is when it was first seen (monotonic), and `age_then` its age at that moment.
    `counters`, `rates` and `impossible` (names of impossible fields) are of that time. `rejected` counts those since the guest was first
    seen. `cpu` is CPU time in ns, `size` and `maximum` are in KiB. `rebooted` is the monotonic time at which a reboot of the guest's kernel
    was noticed.
    """

    looked: float | None = None
    updated: int = 0
    seen: float = 0.0
    age_then: float = 0.0
    counters: Mapping[str, int] = _NONE
    rates: Mapping[str, float] = _NONE
    cpu: GrowthRate = UNKNOWN_RATE
    size: GrowthRate = UNKNOWN_RATE
    maximum: int | None = None
    impossible: tuple[str, ...] = ()
    rejected: int = 0
    rebooted: float | None = None

    def age(self, monotonic: float) -> float | None:
        """Return the age of the statistics in seconds; None: there are none yet."""
        return max(0.0, monotonic - self.seen) + self.age_then if self.updated else None


def convert(
    record: Record, previous: Reading | None, *, wall: float, monotonic: float, stale_after: float
) -> tuple[dict[str, Value], Reading]:
    """Return the fields of one record, and the next `previous`.

    One impossible figure (more free memory than memory, a counter that leaps) makes all figures of the same report unknown.

    :param record: by the names of libvirt's `getAllDomainStats`, whole or partial
    :param previous: of the same guest since its start; None at the first look
    :param wall: now, in seconds since the epoch; used only at the first look, and while the guest was busy since, so that jumps of the
        clock do no harm
    :param monotonic: now, on a clock that never jumps
    :param stale_after: age in seconds at which the guest's own figures are left out
    """
    fields: dict[str, Value] = {}
    size = _number(record, "balloon.current") or None  # no guest has no memory at all
    if size is not None:
        fields["balloon_cur"] = size
    maximum = _number(record, "balloon.maximum") or None
    if maximum is not None:
        fields["balloon_max"] = possible_maximum(maximum, size)
    for name, key in (("rss", "balloon.rss"), ("vcpu_count", "vcpu.current")):
        number = _number(record, key)
        if number is not None:
            fields[name] = number
    before = previous or Reading()
    cpu, growth = before.cpu.until(_number(record, "cpu.time"), monotonic), before.size.until(size, monotonic, falls=True)
    if cpu.per_second is not None:
        fields["cpu_usage"] = round(cpu.per_second / 1e7, 2)  # percent of one CPU's ns
    if growth.per_second is not None:
        fields["balloon_rate"] = round(growth.per_second, 1)
    updated = _number(record, "balloon.last-update")
    memory, lies = _memory(record, maximum, previous) if updated else ({}, ())
    reading = _next_reading(record, previous, updated, lies, wall, monotonic)._replace(cpu=cpu, size=growth, maximum=maximum)
    age = reading.age(monotonic)
    if age is not None:
        fields["stats_age"] = round(age, 3)
        fields["stats_rejected"] = reading.rejected
        if updated and age <= stale_after and not (lies or reading.impossible):  # a guest may tell several times within a second
            fields.update(memory)
            fields.update(reading.rates)
        if reading.rebooted is not None:
            fields[GuestField.REBOOT_AGE] = round(monotonic - reading.rebooted, 3)
    return fields, reading


def usable_memory(record: Record) -> tuple[int, int] | None:
    """Return the time of the last statistics (seconds since the epoch) and the KiB usable then, if the record has both."""
    updated, usable = (_number(record, f"balloon.{name}") for name in ("last-update", "usable"))
    return (updated, usable) if updated and usable is not None else None


def possible_maximum(maximum: int, size: Value) -> int:
    """Return the guest's size in KiB with an empty balloon, at least its present size."""
    return max(maximum, size if isinstance(size, int) else 1)


def _next_reading(
    record: Record, previous: Reading | None, updated: int | None, lies: tuple[str, ...], wall: float, monotonic: float
) -> Reading:
    """Return the next reading, without CPU time, size and maximum."""
    looked_before = previous.looked if previous else None  # a busy guest's record does not tell: there may be new statistics since then
    looked = looked_before if updated is None else monotonic
    if previous is not None and previous.updated and updated in {None, 0, previous.updated}:  # nothing new
        return previous._replace(looked=looked)
    if not updated:
        return Reading(looked)
    counters = {name: count for name, _, _, key in COUNTERS if (count := _number(record, key)) is not None}
    rates: Mapping[str, float] = _NONE
    rebooted = None
    if previous is not None:
        rebooted = monotonic if _count_anew(previous.counters, counters) else previous.rebooted
        rates, leaps = _rates(previous.counters, counters, updated - previous.updated)
        lies += leaps
    age_then = _age_at_first_sight(wall - updated, looked_before, monotonic)
    rejected = len(lies) + (previous.rejected if previous else 0)
    return Reading(looked, updated, monotonic, age_then, counters, rates, impossible=lies, rejected=rejected, rebooted=rebooted)


def _age_at_first_sight(age: float, looked_before: float | None, monotonic: float) -> float:
    """Return the age of new statistics when they are first seen.

    They are no older than the last record, whatever the wall clock says: it may jump, or be another machine's. Only the first statistics
    depend on it; statistics from the future count as infinitely old.

    :param age: by the wall clock
    :param looked_before: monotonic time of the last record with a time; None: never
    """
    if looked_before is not None:
        return min(max(age, 0.0), max(0.0, monotonic - looked_before))
    return max(age, 0.0) if age >= -_CLOCK_SLACK_SECONDS else _NEVER_FRESH


def _count_anew(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    """Tell whether the guest's kernel restarted in between. A single falling counter may have overflowed."""
    names = before.keys() & after.keys()
    return any(after[name] < before[name] for name in names) and not any(after[name] > before[name] for name in names)


def _rates(before: Mapping[str, int], after: Mapping[str, int], seconds: int) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return growth per second, and counters that leapt; unknown where a counter or the clock went back, as at a reboot."""
    if seconds <= 0:
        return {}, ()
    rates = {name: (count - before[name]) / seconds for name, count in after.items() if name in before and count >= before[name]}
    leaps = tuple(name for name, rate in rates.items() if rate > _FASTEST)
    return rates, leaps


def _memory(record: Record, maximum: int | None, previous: Reading | None) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Return the guest's memory figures, and the names of impossible ones: no number, or more than the guest has.

    While memory is unplugged, figures from a moment ago are compared with the maximum of that time.
    """
    limit = _LARGEST if maximum is None else max(maximum, previous.maximum or 0) if previous else maximum
    values: dict[str, Value] = {}
    lies: tuple[str, ...] = ()
    for name, _, _, key in MEMORY:
        value = record.get(key)
        if value is None or value == _ALL_ONES:
            continue
        if type(value) is int and 0 <= value <= limit:
            values[name] = value
            if name == "mem_available":
                limit = value
        else:
            lies += (name,)
    return values, lies


def _number(record: Record, key: str) -> int | None:
    value = record.get(key)
    return value if type(value) is int and 0 <= value < _LARGEST else None  # the exact type: a bool is no number here
