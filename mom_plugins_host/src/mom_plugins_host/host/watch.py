"""Thread that starts a cycle early if the host's memory runs low.

mom reads available memory and the kernel's counter of stalls (PSI) a few times a second.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from mom_core import Duration, PluginContext, PluginSettings, Size, format_duration
from mom_kvm import AvailableGauge, LookThread, Pressure, read_kernel_file, read_meminfo

WINDOW_SECONDS = 1.0
"""Window in which stalls are counted."""

STALL_SECONDS = 0.05
"""mom starts a cycle if tasks have waited this long for memory within the window. A host with enough memory stays near 0."""

FIRST_GAP_SECONDS = 1.0
LONGEST_GAP_SECONDS = 30.0
"""While tasks keep stalling, the gap between two wake-ups doubles, up to this length."""

_LONGEST_REST_SECONDS = 1.0
"""Longest time between two readings, while memory is plentiful."""

_JOIN_SECONDS = 0.3

_SHORTEST_WATCH_SECONDS = 0.01
"""Least value of `watch`. A reading takes 0.1 ms, so readings use 1 % of a CPU."""


class HostSettings(PluginSettings):
    """Settings of the watch between two cycles."""

    watch: Annotated[Duration, Field(ge=0, le=10), LookThread.interval(_SHORTEST_WATCH_SECONDS)] = 0.2
    """Time between two checks whether the host runs low on memory. If it does, a cycle starts immediately. `0s`: no checks. With plenty of
    available memory, mom checks less often: once a second, or sooner if all CPUs together could use up this memory earlier."""
    watch_available: Size | None = None
    """Start a cycle if less memory than this is available. Unset: `mem_watermark_high` of the `balloon` plugin. Without that plugin, a
    fifth of the host's memory, capped at 32 GiB."""


class StallGauge:
    """Meter of stall time in the last window, from samples of the kernel's counter."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def stalled(self, total: int, now: float) -> float:
        """Return seconds of stalls in the window that ends now. `total` is in µs since boot, `now` in monotonic seconds."""
        samples = self._samples
        if samples and total < samples[-1][1]:
            samples.clear()
        samples.append((now, total))
        while len(samples) > 2 and samples[1][0] <= now - WINDOW_SECONDS:
            samples.popleft()
        since, before = samples[0]
        elapsed = max(now - since, WINDOW_SECONDS)  # the first sample may be older than the window
        return (total - before) / 1e6 * WINDOW_SECONDS / elapsed


class Patience:
    """Rate limit for wake-ups: immediate for a new shortage, at growing gaps while the shortage lasts."""

    def __init__(self) -> None:
        self._gap = 0.0
        self._next = 0.0
        self._last = float("-inf")

    def allows(self, now: float) -> bool:
        """Return whether to wake mom at `now` (monotonic seconds)."""
        quiet, self._last = now - self._last, now
        if quiet > 2 * self._gap:
            self._gap = FIRST_GAP_SECONDS
        elif now < self._next:
            return False
        else:
            self._gap = min(2 * self._gap, LONGEST_GAP_SECONDS)
        self._next = now + self._gap
        return True


@dataclass(eq=False)
class HostWatch:
    """Watch of the host's memory between cycles."""

    settings: HostSettings
    context: PluginContext
    monotonic: Callable[[], float] = time.monotonic
    how: str = "only in cycles"
    """How memory pressure is watched, in words for `mom doctor`."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _available: AvailableGauge = field(default_factory=AvailableGauge)
    _stalls: StallGauge = field(default_factory=StallGauge)
    _patience: Patience = field(default_factory=Patience)
    _other_host: bool = False
    _target_kib: int | None = None
    _thread: LookThread = field(init=False)

    def __post_init__(self) -> None:
        self._thread = LookThread("host-watch", "reading the host's memory", self.look, self.context.log)
        self._pressure_path = self.context.root / "proc/pressure/memory"
        self._most_kib = AvailableGauge.ALLOCATED_KIB * (os.cpu_count() or 1)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start(self.settings.watch)
        self.how = f"every {format_duration(self.settings.watch)}"
        self.context.log.info("memory pressure is watched %s", self.how)

    def stop(self) -> None:
        """Stop the thread and wait for it."""
        self._thread.stop(_JOIN_SECONDS)

    def update(self, available: int | None, total: int | None, target: int | None, own: int | None) -> None:
        """Record a cycle's memory figures, in KiB.

        :param total: the host's memory in the snapshot, possibly from another plugin
        :param target: desired available memory
        :param own: the memory of this host
        """
        with self._lock:
            self._target_kib = target
            if total is not None and own is not None:
                self._other_host = total != own  # a simulated host: ignore the pressure of this one
            if available is not None and own is not None:
                self._available.saw(available, self._low(own))

    def look(self) -> float:
        """Read memory and pressure, and start a cycle if needed. Return the seconds until the next reading."""
        with self._lock:
            if self._other_host:
                return self._rest(float("inf"))
            memory = read_meminfo(self.context.root)
            total, available = memory.get("MemTotal"), memory.get("MemAvailable")
            why, headroom = "", 0.0
            if total is not None and available is not None:
                low = self._low(total)
                why, headroom = self._available.why(available, low), available - AvailableGauge.FALL_BELOW * low
        if not why and (some := Pressure.parse(read_kernel_file(self._pressure_path)).get("some")) is not None:
            why = self._why_stalled(self._stalls.stalled(some.total, self.monotonic()))
        if why:
            self.context.wake(f"host memory pressure: {why}")
        return self._rest(headroom)

    def _rest(self, headroom: float) -> float:
        # All CPUs together need this long to allocate `headroom` KiB.
        return max(self.settings.watch, min(_LONGEST_REST_SECONDS, headroom / self._most_kib))

    def _why_stalled(self, seconds: float) -> str:
        stalls = seconds >= STALL_SECONDS and self._patience.allows(self.monotonic())
        return f"tasks waited for memory for {seconds * 1000:.0f} ms in the last second" if stalls else ""

    def _low(self, total: int) -> float:
        if self.settings.watch_available is not None:
            return self.settings.watch_available / 1024
        return AvailableGauge.usual_low(total) if self._target_kib is None else self._target_kib
