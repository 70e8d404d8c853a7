"""The price of KSM, ksmd's CPU time, and what it gives for it: the memory that a scan saves, for each second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mom_core import Value
from mom_plugins_ksm.fields import is_count, saved_kib, tracked_kib

_LEAST_BETWEEN = 1.0
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
        if base is None or cpu_seconds is None or cpu_seconds < base[0]:
            self._base = self._last = None if cpu_seconds is None else (cpu_seconds, now)
            self._speed, self._percent, self.pages = pages, None, None
            return None
        if pages != self._speed and self._last is not None:
            # Set right after the last sample, as what mom sets is: what was before it says nothing of this speed.
            self._base = base = self._last
        if now - base[1] >= _LEAST_BETWEEN:
            self._base, self._percent, self.pages = (cpu_seconds, now), 100 * (cpu_seconds - base[0]) / (now - base[1]), pages
        self._last, self._speed = (cpu_seconds, now), pages
        return self._percent


_PAGE_SECONDS = 3e-6
"""CPU time for one page, where ksmd's is unknown: a checksum, and a look into two trees. benchmarks/ksm measures it: 2 to 3 us."""

_LEAST_SECONDS = 0.05
"""CPU time from which on a scan can be judged: /proc counts in hundredths of a second."""

_LONG_SECONDS = 60.0
"""CPU time after which a scan is judged that is not over yet: of a host of some TiB one takes an hour."""


class _Mark(NamedTuple):
    """Where a scan began. CPU seconds of ksmd that are known in two ways have nothing to do with each other."""

    saved_kib: int
    full_scans: int
    known_by: str
    seconds: float


class Yield:
    """Follows KSM's counters from sample to sample, and judges each whole scan when it is over."""

    def __init__(self) -> None:
        self._mark: _Mark | None = None
        self._last: float | None = None
        self._estimated, self._scans = 0.0, 0

    def kib_per_second(self, files: Mapping[str, Value], page_size: int) -> float | None:
        """KiB saved for each CPU second by the last scan that could be judged; None before there was one, and after KSM began anew.

        :param files: values by the names of the files in /sys/kernel/mm/ksm, and `ksmd_cpu_seconds`
        :param page_size: bytes
        """
        saved, scans, looked_at = saved_kib(files, page_size), files.get("full_scans"), tracked_kib(files, page_size)
        if saved is None or looked_at is None or not is_count(scans):
            self._mark = self._last = None
            return None
        now, mark = _Mark(saved, scans, *self._spent(files, scans, looked_at * 1024 // page_size)), self._mark
        if mark is None or scans < mark.full_scans or now.known_by != mark.known_by or now.seconds < mark.seconds or files.get("run") == 2:
            self._mark, self._last = now, None
            return None
        used = now.seconds - mark.seconds
        if (scans > mark.full_scans and used >= _LEAST_SECONDS) or used >= _LONG_SECONDS:
            self._last, self._mark = round((saved - mark.saved_kib) / used, 1), now
        return self._last

    def _spent(self, files: Mapping[str, Value], scans: int, pages: int) -> tuple[str, float]:
        """CPU seconds of ksmd: its own account; else by the pages that it says to have scanned; else by whole scans of what it knows."""
        seconds, scanned = files.get("ksmd_cpu_seconds"), files.get("pages_scanned")
        if isinstance(seconds, int | float):
            return ("its account", float(seconds))
        if is_count(scanned):
            return ("pages scanned", scanned * _PAGE_SECONDS)
        self._estimated += max(0, scans - self._scans) * pages * _PAGE_SECONDS
        self._scans = scans
        return ("whole scans", self._estimated)
