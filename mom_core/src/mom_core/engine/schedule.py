"""Schedule of cycles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SHORTEST_GAP_SECONDS = 0.5
"""Shortest time between requested cycles."""


BEAT_SECONDS = 5.0
"""Time between calls of `on_progress` during a wait."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Source of time in seconds: `monotonic`, and `wall` since the epoch."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def sleep(self, seconds: float) -> None:
        """Sleep; return at once if the clock is simulated."""
        if self.monotonic is time.monotonic:
            time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Tick:
    """Due cycle: its delay in seconds, and the number of cycles skipped before it."""

    lag: float
    skipped: int
    woken_by: str


class Schedule:
    """Schedule of cycles at `start + n * interval`. Requested cycles do not move this grid. A long cycle delays or skips later ones."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._next = time.monotonic()
        self._last_woken = float("-inf")
        self._condition = threading.Condition()
        self._reason = ""
        self._stopped = threading.Event()

    def wake(self, reason: str) -> None:
        """Request an early cycle, from any thread."""
        with self._condition:
            self._reason = self._reason or reason
            self._condition.notify_all()

    def stop(self) -> None:
        """Make `wait` return None from now on."""
        with self._condition:
            self._stopped.set()
            self._condition.notify_all()

    def change(self, interval: float) -> None:
        """Change the interval. If it differs, the next cycle is due one interval from now."""
        with self._condition:
            if interval != self.interval:
                self.interval = interval
                self._next = time.monotonic() + interval
                self._condition.notify_all()

    def wait(self, on_progress: Callable[[], None] = lambda: None) -> Tick | None:
        """Sleep until a cycle is due; return None after a stop."""
        with self._condition:
            while not self._stopped.is_set():
                now = time.monotonic()
                due = min(self._next, self._last_woken + SHORTEST_GAP_SECONDS) if self._reason else self._next
                if now >= due:
                    return self._begin(now)
                on_progress()
                if not self._stopped.is_set():  # a signal handler in this thread cannot wake the wait
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
