"""Schedule of cycles: on a fixed grid of a monotonic clock, or at once when the engine is woken.

A simulation brings its own `Clock`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SHORTEST_GAP_SECONDS = 0.5
"""Minimum distance of woken cycles, in s: half of the second within which mom helps a guest under pressure."""


BEAT_SECONDS = 5.0
"""Interval of progress calls during a wait, in s: a fourth of the watchdog of mom's unit."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Source of time: `monotonic` in seconds, for durations; `wall` in seconds since the epoch, for people."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def sleep(self, seconds: float) -> None:
        """Sleep. A simulated clock does not move meanwhile, so this returns at once."""
        if self.monotonic is time.monotonic:
            time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Tick:
    """Due cycle: delay in s, scheduled cycles skipped before it, and the reason of an unscheduled one."""

    lag: float
    skipped: int
    woken_by: str


class Schedule:
    """Schedule of cycles at `start + n * interval` of the monotonic clock. Woken cycles do not move this grid.

    A cycle longer than the interval delays or skips the next ones; cycles never pile up.
    """

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._next = time.monotonic()
        self._last_woken = float("-inf")
        self._condition = threading.Condition()
        self._reason = ""
        self._stopped = threading.Event()

    def wake(self, reason: str) -> None:
        """Make a cycle due now, from any thread. Several calls before the cycle starts count as one."""
        with self._condition:
            self._reason = self._reason or reason
            self._condition.notify_all()

    def stop(self) -> None:
        """Make `wait` return None from now on."""
        with self._condition:
            self._stopped.set()
            self._condition.notify_all()

    def change(self, interval: float) -> None:
        """Use another interval, on a grid that starts now."""
        with self._condition:
            if interval != self.interval:
                self.interval = interval
                self._next = time.monotonic() + interval
                self._condition.notify_all()

    def wait(self, on_progress: Callable[[], None] = lambda: None) -> Tick | None:
        """Sleep until a cycle is due; return None when stopped.

        :param on_progress: called every few seconds
        """
        with self._condition:
            while not self._stopped.is_set():
                now = time.monotonic()
                due = min(self._next, self._last_woken + SHORTEST_GAP_SECONDS) if self._reason else self._next
                if now >= due:
                    return self._begin(now)
                on_progress()
                if not self._stopped.is_set():  # a signal handler in this thread may have stopped it, without a wake-up
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
