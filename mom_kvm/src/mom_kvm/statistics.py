"""Conversion of a guest's statistics to fields. False statistics cause neither errors nor impossible values."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from mom_core import Value
from mom_kvm.fields import COUNTERS, MEMORY, GuestField

StatisticsRecord: TypeAlias = Mapping[str, object]
"""Statistics of a guest, keyed by libvirt's names. Sizes are in KiB, `cpu.time` in ns, `balloon.last-update` in seconds since the epoch."""

_LARGEST = 1 << 62
"""Larger numbers are invalid."""

_ALL_ONES = (1 << 64) - 1
"""Value with which the balloon driver marks a statistic as unknown."""

_FASTEST = 1 << 30
"""Largest possible growth of a counter per second: 1 TiB of swap, or a billion faults."""

_CLOCK_SLACK_SECONDS = 2.0
"""How far `last-update` may be ahead of the host's clock."""

_SHORTEST_SECONDS = 0.5

_NEVER_FRESH = 1e9
"""Age in seconds that counts as stale under any setting."""

_NONE: Mapping[str, int] = MappingProxyType({})


class GrowthRate(NamedTuple):
    """Value `counted` at the monotonic time `looked`, and its growth per second; None if unknown."""

    looked: float | None = None
    counted: float | None = None
    per_second: float | None = None

    def until(self, counted: float | None, now: float, *, falls: bool = False) -> GrowthRate:
        """Return the growth from this value to the value `counted` at the time `now`. Before 0.5 s have passed, return this object.

        :param falls: whether the value may fall; otherwise a fall means a restarted counter
        """
        seconds = _SHORTEST_SECONDS if self.looked is None else now - self.looked
        if seconds < _SHORTEST_SECONDS:
            return self
        if counted is None or self.counted is None or (counted < self.counted and not falls):
            return GrowthRate(now, counted)
        return GrowthRate(now, counted, (counted - self.counted) / seconds)

    @property
    def percent(self) -> float | None:
        """Growth in percent, for a counter of seconds such as CPU time; None if unknown."""
        return None if self.per_second is None else round(self.per_second * 100, 2)


UNKNOWN_RATE = GrowthRate()


class Reading(NamedTuple):
    """State of `convert` between two samples of a guest.

    `looked` is the monotonic time of the last record, `seen` that of the last new `last-update`. `age_then` is the statistics' age at
    `seen`.
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
        """Return the statistics' age in seconds; None without statistics."""
        return max(0.0, monotonic - self.seen) + self.age_then if self.updated else None


def convert(
    record: StatisticsRecord, previous: Reading | None, *, wall: float, monotonic: float, stale_after: float
) -> tuple[dict[str, Value], Reading]:
    """Return the fields of a record, and the state to pass as `previous` with the next record.

    One impossible statistic makes all statistics of the guest's report unknown.

    :param record: keyed by the names of libvirt's `getAllDomainStats`; may be partial
    :param wall: present time in seconds since the epoch; new statistics count as at most as old as the previous record
    """
    fields: dict[str, Value] = {}
    size = _number(record, "balloon.current") or None  # 0 is impossible
    if size is not None:
        fields["balloon_cur"] = size
    maximum = _number(record, "balloon.maximum") or None
    if maximum is not None:
        fields["balloon_max"] = max(maximum, size or 1)  # the guest has at least its present size
    for name, key in (("rss", "balloon.rss"), ("vcpu_count", "vcpu.current")):
        number = _number(record, key)
        if number is not None:
            fields[name] = number
    before = previous or Reading()
    cpu, growth = before.cpu.until(_number(record, "cpu.time"), monotonic), before.size.until(size, monotonic, falls=True)
    if cpu.per_second is not None:
        fields["cpu_usage"] = round(cpu.per_second / 1e7, 2)  # ns to percent of one CPU
    if growth.per_second is not None:
        fields["balloon_rate"] = round(growth.per_second, 1)
    updated = _number(record, "balloon.last-update")
    memory, lies = _memory(record, maximum, previous) if updated else ({}, ())
    reading = _next_reading(record, previous, updated, lies, wall, monotonic)._replace(cpu=cpu, size=growth, maximum=maximum)
    age = reading.age(monotonic)
    if age is not None:
        fields["stats_age"] = round(age, 3)
        fields["stats_rejected"] = reading.rejected
        if updated and age <= stale_after and not (lies or reading.impossible):  # a guest may report twice in the same second
            fields.update(memory)
            fields.update(reading.rates)
        if reading.rebooted is not None:
            fields[GuestField.REBOOT_AGE] = round(monotonic - reading.rebooted, 3)
    return fields, reading


def usable_memory(record: StatisticsRecord) -> tuple[int, int] | None:
    """Return the time of the statistics (seconds since the epoch), and the usable KiB; None if missing."""
    updated, usable = (_number(record, f"balloon.{name}") for name in ("last-update", "usable"))
    return (updated, usable) if updated and usable is not None else None


def _next_reading(
    record: StatisticsRecord, previous: Reading | None, updated: int | None, lies: tuple[str, ...], wall: float, monotonic: float
) -> Reading:
    looked_before = previous.looked if previous else None  # a busy guest's record has no `last-update`, and does not count as a look
    looked = looked_before if updated is None else monotonic
    if previous is not None and previous.updated and updated in {None, 0, previous.updated}:  # no new statistics
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
    # Later statistics are at most as old as the last look. First statistics from the future are infinitely old.
    if looked_before is not None:
        return min(max(age, 0.0), max(0.0, monotonic - looked_before))
    return max(age, 0.0) if age >= -_CLOCK_SLACK_SECONDS else _NEVER_FRESH


def _count_anew(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    # The guest has rebooted if counters fall and none rises. If some rise, the others may have overflowed.
    names = before.keys() & after.keys()
    return any(after[name] < before[name] for name in names) and not any(after[name] > before[name] for name in names)


def _rates(before: Mapping[str, int], after: Mapping[str, int], seconds: int) -> tuple[dict[str, float], tuple[str, ...]]:
    if seconds <= 0:
        return {}, ()
    rates = {name: (count - before[name]) / seconds for name, count in after.items() if name in before and count >= before[name]}
    leaps = tuple(name for name, rate in rates.items() if rate > _FASTEST)
    return rates, leaps


def _memory(record: StatisticsRecord, maximum: int | None, previous: Reading | None) -> tuple[dict[str, Value], tuple[str, ...]]:
    # Also return the names of impossible statistics.
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


def _number(record: StatisticsRecord, key: str) -> int | None:
    value = record.get(key)
    return value if type(value) is int and 0 <= value < _LARGEST else None  # exact type, because a bool is an int
