"""Each guest's habits, and the growth that the host must be ready for."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from mom_core import Value
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.law.reasons import ReasonCode
from mom_plugins_balloon.learned import GROWTH_WINDOW_SECONDS, PROCESS_KIB, LearnedHabits, first_learned
from mom_plugins_balloon.memory import FIELDS, Habits
from mom_plugins_balloon.names import PINNED, REASON, SUGGESTED
from mom_plugins_balloon.remembered import Remembered

FREED_SECONDS: Final = 60.0
"""Memory freed longer ago than this does not matter: free pages have been reported by then."""

KEPT_SECONDS: Final = 60.0
"""Time for which a guest that ran out of memory keeps the memory that it got."""

FASTEST_GROWTH: Final = 2.0
"""Ratio of a guest's fastest growth to its mean growth in the 2 s between statistics."""

_RAN_OUT: Final = frozenset({ReasonCode.RUNS_OUT, ReasonCode.FORECAST})


class Learning:
    """Habits of all guests, and their total growth.

    :param memory_seconds: a peak counts in full for this time
    :param growth_rate: growth in KiB/s that mom assumes for guests observed for less than `memory_seconds`
    """

    def __init__(self, memory_seconds: float, growth_rate: float) -> None:
        self._seconds, self._unseen_rate = memory_seconds, growth_rate
        self._growth: deque[tuple[float, float]] = deque()
        self._growth_at = self._seen = self._listed_at = -math.inf
        self.growth_kib = 0.0
        self.room_kib = 0.0
        """Memory that guests could still take from the host: their sizes minus backed memory."""

    def see(self, records: BalloonedGuests) -> None:
        """Record the last snapshot. If it contains no guest, the hypervisor did not answer, and earlier guests still count."""
        snapshot, now = records.snapshot, records.snapshot.monotonic
        grown, is_sudden = 0.0, self._listed_at == self._seen  # growth while the hypervisor did not answer is not sudden
        if snapshot.guests:
            self._listed_at, self.room_kib = now, 0.0
            described = records.of_all(snapshot.listed), records.described.memories.values()
            decided = snapshot.column(REASON), snapshot.numbers(SUGGESTED)
            for guest, record, memory, reason, suggested in zip(snapshot.listed, *described, *decided, strict=True):
                learned, size, usable = record.learned, memory.size, memory.statistics.usable
                if size is not None and not guest.properties.get(PINNED):  # pinned memory is backed already, or belongs to a pool
                    qemu_overhead = PROCESS_KIB if learned is None else learned.process.qemu_overhead
                    self.room_kib += max(0.0, size - max(0.0, (memory.process.rss or 0.0) - qemu_overhead))
                if learned is None:
                    learned = first_learned(memory, now)
                else:
                    lacked = record.killed.lacked if record.killed is not None and record.killed.new else 0.0
                    learned = learned.after(memory, now, record.request, lacked, self._seconds)
                    grown += learned.process.growth
                if reason in _RAN_OUT and learned is not None and size is not None and usable is not None and suggested is not None:
                    learned = learned.after_running_out(usable + suggested - size, now, KEPT_SECONDS)
                records.put(guest.id, record._replace(learned=learned))
        else:
            self.room_kib = self.room_kib if now - self._listed_at <= self._seconds else 0.0
        self._note_growth(now, grown if is_sudden else 0.0)

    def _note_growth(self, now: float, grown: float) -> None:
        passed, self._seen = now - self._seen, now
        if grown > 0 and passed < self._seconds:
            self._growth.append((now, grown))
        while self._growth and self._growth[0][0] < now - GROWTH_WINDOW_SECONDS:
            self._growth.popleft()
        growth = sum(kib for _, kib in self._growth)
        if growth >= self.growth_kib:
            self.growth_kib, self._growth_at = growth, now
        elif now - self._growth_at > self._seconds:
            self.growth_kib = growth + (self.growth_kib - growth) * math.exp(-passed / self._seconds)

    def columns(self, records: Sequence[Remembered]) -> dict[str, Sequence[Value]]:
        """Return these guests' fields; None if not learned yet."""
        habits = [self._habits(record.learned) for record in records]
        return {FIELDS[name]: column for name, column in zip(Habits._fields, zip(*habits, strict=True), strict=False)}

    def _habits(self, learned: LearnedHabits | None) -> Habits:
        if learned is None:
            return _UNKNOWN
        usage, process, kept, now = learned.usage, learned.process, learned.kept_headroom, self._seen
        kernel, floor, rise, freed_age = usage.kernel, usage.stall_floor, usage.burst.rise, now - learned.freed_at
        unseen_rate = self._unseen_rate if now - learned.first_report < self._seconds else 0.0
        has_process = process.rss is not None
        return Habits(
            peak=int(usage.peak.use + kernel.ballooned),  # in the kernel's terms, for comparison with its figures
            used_before=int(usage.statistics.used),
            cache_share=round(usage.cache_share * 1000) / 1000,  # a third of the time of round(…, 3)
            kernel_reserved=None if kernel.reserved is None else int(kernel.reserved),
            rss_before=None if process.rss is None else int(process.rss),
            qemu_overhead=int(process.qemu_overhead) if has_process else None,
            stall_floor=int(floor.usable) if floor.usable else None,
            kill_floor=int(floor.killed) if floor.killed else None,
            counts_balloon=1 if kernel.counts_balloon else None,
            growth_rate=int(max(unseen_rate, FASTEST_GROWTH * usage.growth_rate)),
            burst=int(rise) if rise else None,
            freed_age=round(freed_age, 1) if freed_age < FREED_SECONDS else None,
            hollow=int(process.stored_most - process.stored) if has_process else None,
            kept_headroom=int(kept.usable) if kept is not None and now - kept.at < KEPT_SECONDS else None,
        )


_UNKNOWN: Final = Habits()
