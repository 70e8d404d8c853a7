"""KSM's yield for its price: the memory that a scan of ksmd saves, for each second of its CPU time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mom_core import Value
from mom_plugins_ksm.fields import is_count, saved_kib, tracked_kib

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
