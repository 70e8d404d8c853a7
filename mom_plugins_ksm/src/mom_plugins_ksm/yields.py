"""ksmd's CPU time, and the memory that each second of it saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mom_core import Value
from mom_plugins_ksm.fields import is_count, saved_kib, tracked_kib

_LEAST_BETWEEN = 1.0
"""The kernel counts CPU time in hundredths of a second."""


class CpuUsage:
    """Share of one CPU that ksmd used over at least 1 s at constant speed."""

    def __init__(self) -> None:
        self._base: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None
        self._speed: Value = None
        self._percent: float | None = None
        self.pages: Value = None
        """Batch at the last measurement."""

    def percent(self, cpu_seconds: float | None, now: float, pages: Value = None) -> float | None:
        """Return percent of one CPU; None at first, after a gap or a restart.

        :param cpu_seconds: present count; None if unknown
        :param now: monotonic seconds
        :param pages: present batch
        """
        base = self._base
        if base is None or cpu_seconds is None or cpu_seconds < base[0]:
            self._base = self._last = None if cpu_seconds is None else (cpu_seconds, now)
            self._speed, self._percent, self.pages = pages, None, None
            return None
        if pages != self._speed and self._last is not None:
            # mom sets the speed right after a sample: measure a new speed only from there on.
            self._base = base = self._last
        if now - base[1] >= _LEAST_BETWEEN:
            self._base, self._percent, self.pages = (cpu_seconds, now), 100 * (cpu_seconds - base[0]) / (now - base[1]), pages
        self._last, self._speed = (cpu_seconds, now), pages
        return self._percent


_PAGE_SECONDS = 3e-6
"""If ksmd's CPU time is unknown: a checksum and two tree lookups. benchmarks/ksm measured 2 to 3 µs."""

_LEAST_SECONDS = 0.05
"""CPU time of the shortest judged scan: /proc counts in hundredths of a second."""

_LONG_SECONDS = 60.0
"""CPU time after which a scan is judged before its end: a scan of some TiB takes an hour."""


class _Mark(NamedTuple):
    # CPU seconds from different sources cannot be compared.

    saved_kib: int
    full_scans: int
    source: str
    seconds: float


class Yield:
    """Worth of full scans, judged from KSM's counters when each scan ends."""

    def __init__(self) -> None:
        self._mark: _Mark | None = None
        self._last: float | None = None
        self._estimated, self._scans = 0.0, 0

    def kib_per_second(self, files: Mapping[str, Value], page_size: int) -> float | None:
        """Return the KiB saved per CPU second by the last judged scan, if any."""
        saved, scans, looked_at = saved_kib(files, page_size), files.get("full_scans"), tracked_kib(files, page_size)
        if saved is None or looked_at is None or not is_count(scans):
            self._mark = self._last = None
            return None
        now, mark = _Mark(saved, scans, *self._spent(files, scans, looked_at * 1024 // page_size)), self._mark
        if mark is None or scans < mark.full_scans or now.source != mark.source or now.seconds < mark.seconds or files.get("run") == 2:
            self._mark, self._last = now, None
            return None
        used = now.seconds - mark.seconds
        if (scans > mark.full_scans and used >= _LEAST_SECONDS) or used >= _LONG_SECONDS:
            self._last, self._mark = round((saved - mark.saved_kib) / used, 1), now
        return self._last

    def _spent(self, files: Mapping[str, Value], scans: int, pages: int) -> tuple[str, float]:
        # The sources are /proc, else scanned pages, else full scans.
        seconds, scanned = files.get("ksmd_cpu_seconds"), files.get("pages_scanned")
        if isinstance(seconds, int | float):
            return ("its account", float(seconds))
        if is_count(scanned):
            return ("pages scanned", scanned * _PAGE_SECONDS)
        self._estimated += max(0, scans - self._scans) * pages * _PAGE_SECONDS
        self._scans = scans
        return ("whole scans", self._estimated)
