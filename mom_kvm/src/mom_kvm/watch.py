"""Watch over shrunk guests between cycles, and a gauge of the host's memory: both decide when a cycle is needed.

Hypervisors send no event when a guest runs low on memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from mom_core import Guest, HypervisorError, Report, Status, Value, as_number, format_kib, printable
from mom_kvm.fields import GuestField
from mom_kvm.health import HealthLimits
from mom_kvm.statistics import Reading, StatisticsRecord, convert
from mom_kvm.threads import LookThread

LOW_SHARE: Final = 0.2
_LOW_MOST_KIB: Final = 32 << 20
"""Upper limit of the default low-memory level."""

_REARM_SHARE: Final = 0.01
"""Available memory must rise above the low-memory level by this fraction before another fall below the level counts."""


class AvailableGauge:
    """Gauge that compares the host's available memory with the last cycle's."""

    FALL_SHARE: Final = 0.05
    """A fall of available memory by this fraction, and by `FALL_KIB`, needs a cycle."""
    FALL_KIB: Final = 64 << 10
    ALLOCATED_KIB: Final = 2 << 20
    """KiB that each CPU can allocate in a second. Measured: the kernel clears 1.8 GiB/s of pages."""
    FALL_BELOW: Final = 2.0
    """Falls count only while available memory is below this multiple of the low-memory level."""

    def __init__(self) -> None:
        self._seen: float | None = None
        self._armed = False
        self._asked = False

    @staticmethod
    def usual_low(total_kib: float) -> float:
        """Return the default low-memory level in KiB for a host of this size."""
        return min(LOW_SHARE * total_kib, _LOW_MOST_KIB)

    def saw(self, available: float, low: float) -> None:
        """Record the available memory of a cycle, and the low-memory level, in KiB."""
        self._seen = available
        self._armed |= available >= low * (1 + _REARM_SHARE)
        self._asked = False

    def why(self, available: float, low: float) -> str:
        """Return why a cycle is needed; empty if it is not."""
        seen = self._seen
        if seen is None or self._asked:
            return ""
        why = ""
        if self._armed and available < low:
            self._armed = False
            why = f"{format_kib(available)} available, less than {format_kib(low)}"
        elif available < self.FALL_BELOW * low and seen - available >= max(self.FALL_KIB, self.FALL_SHARE * seen):
            why = f"{format_kib(available)} available, {format_kib(seen - available)} less than in the last cycle"
        self._asked = bool(why)
        return why


RUNS_OUT_SHARE = 0.125
_RUNS_OUT_KIB = 40 << 10
"""A guest is running out of memory if its usable memory is less than 40 MiB plus `RUNS_OUT_SHARE` of its used memory."""

_USED_UP_SHARE = 0.25
_USED_UP_KIB = 16 << 10
"""A guest needs a cycle if, since the last cycle, it used up a quarter of its usable memory, and at least 16 MiB."""

_ARRIVING_SECONDS = 0.1
"""Interval of the watch while a guest is shrinking."""

_LARGEST_SHARE = 0.05
"""Largest fraction of time that the watch spends in calls to the hypervisor."""

_ACTING_SECONDS = 0.5
"""Time from a guest's statistics to mom's command to its balloon."""

_SOON_SECONDS = 2.5
"""How long a forecast is valid."""

_FAILURE_SECONDS = 5.0

_STALE_SECONDS = 10.0

_JOIN_SECONDS = 0.1


class WatchedMemory(NamedTuple):
    """Memory of a guest: sizes in KiB, swapping in KiB/s, faults per second; None if unknown. `soon` is the expected usable memory."""

    size: float
    usable: float
    swap_in: float | None = None
    major_fault: float | None = None
    soon: float | None = None
    total: float | None = None
    """All memory that the guest's kernel manages."""
    updated: int = 0
    """Time of the statistics in seconds since the epoch."""
    steady: bool = False
    """Whether it is certain that the guest had this size when it sent the statistics."""

    def why_wake(self, before: WatchedMemory) -> str:
        """Return why the guest's change since `before` needs a cycle; empty if it needs none."""
        if _runs_out(self.usable, self) and not _runs_out(before.usable, before):
            return f"{format_kib(self.usable)} usable of {format_kib(self.size)}"
        if self.soon is not None and _runs_out(self.soon, self) and not _runs_out(before.usable, before):
            return f"{format_kib(self.usable)} usable of {format_kib(self.size)}, and soon probably only {format_kib(self.soon)}"
        used_up = before.usable - self.usable - max(0.0, before.size - self.size)  # the guest did not use up what the balloon took
        if used_up >= max(_USED_UP_KIB, _USED_UP_SHARE * before.usable):
            return f"{format_kib(used_up)} used up since the last cycle, {format_kib(self.usable)} usable"
        if (self.swap_in or 0.0) > HealthLimits.SWAP_KIB >= (before.swap_in or 0.0):
            return f"it reads {format_kib(self.swap_in or 0.0)} per second from its swap"
        if (self.major_fault or 0.0) > HealthLimits.MAJOR_FAULTS >= (before.major_fault or 0.0):
            return f"{self.major_fault:.0f} page faults per second wait for its disk"
        return ""


def _runs_out(usable: float, memory: WatchedMemory) -> bool:
    return usable < _RUNS_OUT_KIB + RUNS_OUT_SHARE * max(0.0, memory.size - usable)


def usable_soon(before: WatchedMemory, now: WatchedMemory) -> float:
    """Return how many KiB will probably be usable when mom can act on the guest's next statistics."""
    # Changes by the balloon do not count. With autodeflate, a forecast is possible only while the balloon rests.
    seconds = now.updated - before.updated
    if seconds <= 0:
        return now.usable
    if now.total is not None and before.total is not None and now.total <= now.size and before.total <= before.size:
        used_up = (now.total - now.usable) - (before.total - before.usable)
    elif now.steady and before.steady and now.size == before.size:
        used_up = before.usable - now.usable
    else:
        return now.usable
    return max(0.0, now.usable - max(0.0, used_up) * (seconds + _ACTING_SECONDS) / seconds)


class BalloonStatistics(Protocol):
    """Source of balloon drivers' statistics."""

    def of(self, guests: Set[str]) -> Mapping[str, StatisticsRecord]:
        """Query the present balloon statistics of these guests, keyed by ID. Raise `HypervisorError` on failure."""


@dataclass(slots=True, eq=False)
class _Watched:
    # The watch's lock protects all attributes except `reading`.

    name: str
    incarnation: str
    seen: WatchedMemory
    expected: WatchedMemory
    asked: bool = False
    owes: float | None = None
    """Smaller size in KiB that mom has requested and the guest has not reached yet; None without one."""
    reading: Reading | None = None
    news: WatchedMemory | None = None
    """New statistics for which the watch has not yet decided whether the guest needs a cycle."""
    statistics: WatchedMemory | None = None
    unsteady: int = 1
    """How many new statistics must arrive before the size counts as steady."""
    soon: tuple[float, int] | None = None
    """Monotonic time and KiB of a forecast below the present usable memory; None without a forecast."""

    def forecast(self, fields: Mapping[str, Value], updated: int, now: float) -> WatchedMemory | None:
        memory, before = _memory(fields), self.statistics
        self.statistics = self.soon = None
        if memory is None:
            return None
        self.statistics = memory = memory._replace(updated=updated, steady=not self.unsteady)
        self.unsteady = max(0, self.unsteady - 1)
        soon = memory.usable if before is None else usable_soon(before, memory)
        if soon < memory.usable:
            self.soon = (now, int(soon))
        return memory._replace(soon=soon)

    def moved(self, size: float | None) -> None:
        if self.statistics is not None and size != self.statistics.size:
            self.unsteady = 1  # the first statistics may be older than the balloon's move


@dataclass(slots=True, eq=False)
class GuestWatch:
    """Thread that reads statistics between cycles, and calls `wake` with the reason when a guest needs a cycle."""

    balloons: BalloonStatistics
    """Source of the statistics. Its calls must take limited time."""
    every: float
    """Seconds between queries."""
    wake: Callable[[str], None]
    log: logging.Logger
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _thread: LookThread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = LookThread("guest-watch", "reading the guests' statistics", self.look, self.log)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start(self.every)

    def stop(self) -> None:
        """End the thread. If it hangs in a call, leave it running."""
        self._thread.stop(_JOIN_SECONDS)

    def follow(self, report: Report) -> None:
        """Watch the guests of this report whose size or target is below their maximum size."""
        applied = (outcome.decision for outcome in report.outcomes if outcome.status is Status.APPLIED)
        targets = {decision.entity.id: decision.value for decision in applied if decision.control == GuestField.BALLOON}
        with self._lock:
            before, self._watched = self._watched, {}
            for guest in report.snapshot.guests.values():
                seen = _memory(guest.fields)
                if seen is None or not _can_be_helped(guest, seen, targets.get(guest.id)):
                    continue
                watched, expected = before.get(guest.id), _expected(seen, targets.get(guest.id))
                if watched is None or watched.incarnation != guest.incarnation:
                    watched = _Watched(guest.name, guest.incarnation, seen, expected)
                watched.seen, watched.expected, watched.asked = seen, expected, False
                target = as_number(targets.get(guest.id, guest.fields.get(GuestField.BALLOON)))
                if target is not None:  # a new target replaces an older request, such as a sweep's
                    watched.owes = target if target < seen.size - HealthLimits.TAKEN_KIB else None
                self._watched[guest.id] = watched

    def forecasts(self, guests: Sequence[Guest]) -> dict[str, int]:
        """Return the KiB that will be usable soon, keyed by guest ID, for guests whose usable memory is falling."""
        now = self.monotonic()
        with self._lock:
            made = {(uuid, watched.incarnation): watched.soon for uuid, watched in self._watched.items()}
        pairs = ((guest.id, made.get((guest.id, guest.incarnation))) for guest in guests)
        return {uuid: soon[1] for uuid, soon in pairs if soon is not None and now - soon[0] <= _SOON_SECONDS}

    def look(self) -> float:
        """Query the watched guests once. Return the seconds until the next query is due."""
        with self._lock:
            watched = dict(self._watched)
        if not watched:
            return self.every
        began = self.monotonic()
        try:
            records = self.balloons.of(watched.keys())
        except HypervisorError as error:
            self.log.debug("guests are not watched: %s", error)
            return max(self.every, _FAILURE_SECONDS)
        wall, now = self.wall(), self.monotonic()
        reasons = []
        for uuid, guest in watched.items():
            record, before = records.get(uuid), guest.reading
            if record is None:
                continue
            size = record.get("balloon.current")
            guest.moved(size if isinstance(size, int) else None)
            if isinstance(size, int) and self._arrived(guest, size):
                reasons.append(f"guest {printable(guest.name)} has reached its smaller size")
            updated = record.get("balloon.last-update")
            if before is not None and updated in {None, 0, before.updated}:  # no new statistics, the usual case
                # A busy guest's record has no `last-update`: new statistics may exist already.
                guest.reading = before if updated is None else before._replace(looked=now)
            else:
                fields, guest.reading = convert(record, before, wall=wall, monotonic=now, stale_after=_STALE_SECONDS)
                guest.news = guest.forecast(fields, guest.reading.updated, now)
                if before is not None and guest.reading.rebooted != before.rebooted:
                    reasons.append(f"guest {printable(guest.name)} has rebooted")
            why = self._judged(guest)
            if why:
                reasons.append(f"guest {printable(guest.name)} {why}")
        if reasons:
            self.wake(reasons[0] + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""))
        every = min(self.every, _ARRIVING_SECONDS) if any(guest.owes is not None for guest in watched.values()) else self.every
        return max(every, (now - began) / _LARGEST_SHARE)

    def _arrived(self, guest: _Watched, size: int) -> bool:
        # Return True only once for each smaller size.
        with self._lock:
            if guest.owes is None or size > guest.owes + HealthLimits.TAKEN_KIB:
                return False
            guest.owes = None
            return True

    def _judged(self, guest: _Watched) -> str:
        # After a request, keep new statistics until the cycle is over: the cycle may have used older ones.
        with self._lock:
            now = guest.news
            if now is None or guest.asked:
                return ""
            guest.news = None
            if now.usable == guest.seen.usable:  # the last cycle had the same statistics, but perhaps no forecast
                if now.soon is None:
                    return ""
                now = guest.expected._replace(soon=now.soon + guest.expected.usable - guest.seen.usable)
            why = now.why_wake(guest.expected)
            if why:
                why = f"is short of memory: {why}"
            guest.asked = bool(why)
            return why


def _expected(seen: WatchedMemory, asked: Value) -> WatchedMemory:
    target = as_number(asked)
    return seen if target is None else seen._replace(size=target, usable=max(0.0, seen.usable + target - seen.size))


def _can_be_helped(guest: Guest, seen: WatchedMemory, target: Value) -> bool:
    maximum = guest.number("balloon_max")
    if maximum is None or {"*", GuestField.BALLOON} & guest.blocked.keys():
        return False
    size = min(seen.size, as_number(target) or seen.size)
    return maximum - size >= HealthLimits.TAKEN_KIB


def _memory(fields: Mapping[str, Value]) -> WatchedMemory | None:
    size, usable = as_number(fields.get("balloon_cur")), as_number(fields.get("mem_usable"))
    if size is None or usable is None:
        return None
    swap_in, major_fault, total = (as_number(fields.get(name)) for name in ("swap_in", "major_fault", "mem_available"))
    return WatchedMemory(size, usable, swap_in, major_fault, total=total)
