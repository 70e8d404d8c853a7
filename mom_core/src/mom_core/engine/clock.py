"""Where the engine takes its time from, so that a simulation can bring its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` measures durations in seconds and never jumps; `wall` is seconds since the epoch, for people."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def sleep(self, seconds: float) -> None:
        """Let time pass. One that is told what time it is stands still meanwhile, with the world that goes by it: nothing is waited for."""
        if self.monotonic is time.monotonic:
            time.sleep(seconds)
