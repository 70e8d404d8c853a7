"""The CPU time that ksmd, the kernel thread that merges pages, has used: the price of KSM."""

from __future__ import annotations

import time
from pathlib import Path

from mom_core import Value
from mom_toolkit import ProcessStat, process_ids

_LOOK_AGAIN_AFTER = 60.0
"""Seconds between two searches through /proc for a ksmd that is not there. In a container of its own it never is, and a large host has
thousands of processes to look at."""


class Ksmd:
    """Finds ksmd through /proc once, and again only when it is no longer what it was.

    :param root: where /proc is found
    """

    def __init__(self, root: Path) -> None:
        self._proc = root / "proc"
        self._pid = 0
        self._look_again_at = 0.0

    def cpu_seconds(self) -> float | None:
        """CPU time that ksmd has used since it was started; None when it cannot be seen from here."""
        seconds, now = self._seconds_of(self._pid) if self._pid else None, time.monotonic()
        if seconds is None and (self._pid or now >= self._look_again_at):
            self._look_again_at = now + _LOOK_AGAIN_AFTER
            self._pid = next((pid for pid in process_ids(self._proc) or () if self._seconds_of(pid) is not None), 0)
            seconds = self._seconds_of(self._pid) if self._pid else None
        return seconds

    def _seconds_of(self, pid: int) -> float | None:
        process = ProcessStat.of(f"{self._proc}/{pid}")
        return process.cpu_seconds if process is not None and process.is_kernel_thread and process.name == "ksmd" else None


_LEAST_SECONDS = 1.0
"""Over less than this the growth of CPU time says nothing, as it is counted in hundredths of a second: a cycle that is woken may begin at
any moment after another one."""


class CpuUsage:
    """The share of one CPU that a growing count of CPU seconds means, over the last second at least, in which ksmd was set to one speed."""

    def __init__(self) -> None:
        self._base: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None
        self._speed: Value = None
        self._percent: float | None = None
        self.pages: Value = None
        """Pages a batch at which the last percentage was measured: not those of now, while a new speed has not been measured yet."""

    def percent(self, cpu_seconds: float | None, now: float, pages: Value = None) -> float | None:
        """Percent of one CPU; None at the first sample, after a gap, and when the count has gone backwards.

        :param cpu_seconds: the count now, None when it is unknown
        :param now: seconds of a clock that never jumps
        :param pages: ksmd's pages a batch now
        """
        base = self._base
        if base is None or cpu_seconds is None or cpu_seconds < base[0] or now < base[1]:
            self._base = self._last = None if cpu_seconds is None else (cpu_seconds, now)
            self._speed, self._percent, self.pages = pages, None, None
            return None
        if pages != self._speed and self._last is not None:
            # Set right after the last sample, as what mom sets is: what was before it says nothing of this speed.
            self._base = base = self._last
        if now - base[1] >= _LEAST_SECONDS:
            self._base, self._percent, self.pages = (cpu_seconds, now), 100 * (cpu_seconds - base[0]) / (now - base[1]), pages
        self._last, self._speed = (cpu_seconds, now), pages
        return self._percent
