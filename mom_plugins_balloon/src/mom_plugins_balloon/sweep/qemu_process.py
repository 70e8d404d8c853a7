"""Reader of a guest's QEMU process: CPU time, RSS and page faults."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mom_kvm import PAGE_KIB, ProcessStat
from mom_plugins_balloon.sweep.records import SweepEnd, SweepOver


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """Reading of a process. Sizes are KiB."""

    cpu_seconds: float  #: of all threads, since its start
    resident: float
    faulted: float  #: page faults since the start; huge page faults count as small ones, but show in `resident`


@dataclass(frozen=True, slots=True)
class ProcessActivity:
    """Activity of a process between two readings. Sizes are KiB."""

    busy: float  #: ratio of one CPU
    grown: float
    faulted: float


class QemuProcess:
    """QEMU process of a guest."""

    def __init__(self, pid: int, proc: Path) -> None:
        self._folder = proc / str(pid)
        self._started = None if (stat := ProcessStat.of(self._folder)) is None else stat.started
        # ID of the process's CPU clock, as clock_getcpuclockid(3) computes it. It is valid only with this system's /proc.
        self._clock = (~pid << 3) | 2 if proc == Path("/proc") else None

    def read(self) -> ProcessReading | None:
        """Return a reading; None if the process is gone or the PID was reused."""
        stat = ProcessStat.of(self._folder)
        if stat is None or stat.started != self._started or stat.resident_kib is None:
            return None
        cpu_seconds = stat.cpu_seconds
        if self._clock is not None:
            with suppress(OSError):
                cpu_seconds = time.clock_gettime(self._clock)
        return ProcessReading(cpu_seconds, stat.resident_kib, (stat.minor_faults + stat.major_faults) * PAGE_KIB)


class ProcessWatch:
    """Watch on a guest's process during a sweep.

    :param read: returns None if the process is gone
    """

    def __init__(self, read: Callable[[], ProcessReading | None], clock: Callable[[], float], pause: Callable[[float], object]) -> None:
        self._read, self._clock, self._pause = read, clock, pause
        self.first: float | None = None  #: RSS at the first reading; None before
        self.resident = 0.0  #: RSS at the last reading

    @property
    def gained(self) -> float:
        """Host's gain in KiB since the first reading."""
        return 0.0 if self.first is None else self.first - self.resident

    def read(self) -> ProcessReading:
        """Read the process. Raises `SweepOver` if it is gone."""
        reading = self._read()
        if reading is None:
            raise SweepOver(SweepEnd.FAILED, "its QEMU process cannot be read")
        self.first = reading.resident if self.first is None else self.first
        self.resident = reading.resident
        return reading

    def watch(self, seconds: float) -> ProcessActivity:
        """Return the activity during the next seconds. Raises `SweepOver` if the process is gone."""
        before, began = self.read(), self._clock()
        self._pause(seconds)
        after, passed = self.read(), self._clock() - began
        busy = (after.cpu_seconds - before.cpu_seconds) / passed if passed > 0 else 0.0
        return ProcessActivity(busy, after.resident - before.resident, after.faulted - before.faulted)
