"""When the next cycle is: on a fixed grid of a clock that never jumps, or at once when the engine is woken. And where the engine takes its
time from, so that a simulation can bring its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SHORTEST_GAP_SECONDS = 0.5
"""Woken cycles begin at least this far apart: half of the second in which a guest under pressure should be helped. A flood of
events costs at most two cycles a second besides the scheduled ones. A scheduled cycle does not hold up a woken one: its data
predates the wake-up event."""


BEAT_SECONDS = 5.0
"""How often a long wait says that it goes on: a fourth of the watchdog of mom's unit."""


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` measures durations in seconds and never jumps; `wall` is seconds since the epoch, for people."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def sleep(self, seconds: float) -> None:
        """Let time pass. One that is told what time it is stands still meanwhile, with the world that goes by it: nothing is waited for."""
        if self.monotonic is time.monotonic:
            time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Tick:
    """One due cycle: how late it begins (seconds), how many scheduled ones were left out before it, who woke it (empty: the clock)."""

    lag: float
    skipped: int
    woken_by: str


class Schedule:
    """Cycles at `start + n * interval` of the monotonic clock.

    A cycle that takes longer than the interval makes the next one late, or leaves some out; they never pile up, and nothing drifts.
    A woken cycle comes in between and leaves the grid as it is.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._next = time.monotonic()
        self._last_woken = float("-inf")
        self._condition = threading.Condition()
        self._reason = ""
        self._stopped = threading.Event()

    def wake(self, reason: str) -> None:
        """Make a cycle due now. Any thread; several before the cycle begins are one."""
        with self._condition:
            self._reason = self._reason or reason
            self._condition.notify_all()

    def stop(self) -> None:
        """Make `wait` return None from now on."""
        with self._condition:
            self._stopped.set()
            self._condition.notify_all()

    def change(self, interval: float) -> None:
        """Use another interval, on a grid that begins now."""
        with self._condition:
            if interval != self.interval:
                self.interval = interval
                self._next = time.monotonic() + interval
                self._condition.notify_all()

    def wait(self, on_progress: Callable[[], None] = lambda: None) -> Tick | None:
        """Sleep until a cycle is due; None when stopped.

        :param on_progress: called every few seconds meanwhile
        """
        with self._condition:
            while not self._stopped.is_set():
                now = time.monotonic()
                due = min(self._next, self._last_woken + SHORTEST_GAP_SECONDS) if self._reason else self._next
                if now >= due:
                    return self._begin(now)
                on_progress()
                if not self._stopped.is_set():  # by a signal handler meanwhile, which runs in this very thread, so that it notified nobody
                    self._condition.wait(min(due - now, BEAT_SECONDS))
            return None

    def _begin(self, now: float) -> Tick:
        reason, self._reason = self._reason, ""
        if now < self._next:
            self._last_woken = now
            return Tick(0.0, 0, reason)
        lag = now - self._next
        skipped = int(lag / self.interval)
        self._next += (skipped + 1) * self.interval
        return Tick(lag - skipped * self.interval, skipped, "")
