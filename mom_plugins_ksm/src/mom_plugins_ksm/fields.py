"""Fields from KSM's files, ksmd's CPU usage, and the memory saved per CPU second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeGuard

from mom_core import FieldSpec, Scope, Unit, Value

FILES = (
    ("ksm_run", "run", Unit.COUNT, "1: merging; 0: stopped, merged pages stay merged; 2: stopped, all pages unmerged"),
    ("ksm_pages_to_scan", "pages_to_scan", Unit.PAGES, "pages that ksmd scans before it sleeps"),
    ("ksm_sleep_millisecs", "sleep_millisecs", Unit.MILLISECONDS, "time that ksmd sleeps between two batches of pages"),
    ("ksm_merge_across_nodes", "merge_across_nodes", Unit.FLAG, "1: also merges pages of different NUMA nodes"),
    ("ksm_pages_shared", "pages_shared", Unit.PAGES, "shared pages that are in use"),
    ("ksm_pages_sharing", "pages_sharing", Unit.PAGES, "further mappings of the shared pages: the number of pages saved"),
    ("ksm_pages_unshared", "pages_unshared", Unit.PAGES, "unique pages that ksmd checks repeatedly"),
    ("ksm_pages_volatile", "pages_volatile", Unit.PAGES, "pages that change too fast to be merged"),
    ("ksm_full_scans", "full_scans", Unit.COUNT, "complete scans of all mergeable memory"),
    ("ksm_zero_pages", "ksm_zero_pages", Unit.PAGES, "empty pages merged with the kernel's zero page (use_zero_pages)"),
    ("ksm_general_profit", "general_profit", Unit.BYTES, "memory that KSM saves, minus the memory for its own data; may be negative"),
    ("ksm_advisor_mode", "advisor_mode", Unit.TEXT, "the kernel's advisor: scan-time, which sets pages_to_scan, or none"),
)
_MANAGED = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")

_STATM = "/proc/PID/statm of processes with qemu in their name, or named kvm; or a hypervisor with its own KSM"
_FOUR = "/sys/kernel/mm/ksm pages_shared + pages_sharing + pages_unshared + pages_volatile, times the page size"
_PROFIT = "/sys/kernel/mm/ksm/general_profit; before Linux 6.4 calculated from the page counters"
_SCAN = "ksm_saved, full_scans and /proc/PID/stat of ksmd (estimated from the scanned pages if ksmd is invisible)"
_STAT = "/proc/PID/stat of ksmd"
_CLOCK = "time when mom read these figures, on a monotonic clock"
_PAGES = "ksm_pages_to_scan while ksmd_cpu_usage was measured; for 1 s after a change, the earlier value"

_DERIVED = (
    ("ksm_shareable", Unit.KIB, "address space of all QEMU processes: the upper limit of mergeable memory", _STATM),
    ("ksm_tracked", Unit.KIB, "memory that ksmd has scanned so far: merged, unique and fast changing pages", _FOUR),
    ("ksm_saved", Unit.KIB, "memory that KSM saves, minus the memory for its own data; may be negative", _PROFIT),
    ("ksm_yield", Unit.KIB_PER_SECOND, "memory that ksmd's last complete scan saved per second of its CPU time; may be negative", _SCAN),
    ("ksmd_cpu_usage", Unit.PERCENT, "share of one CPU that ksmd used, measured over 1 s or more", _STAT),
)

FIELDS = (
    *(
        FieldSpec(
            name,
            unit,
            Scope.HOST,
            text,
            f"/sys/kernel/mm/ksm/{file}",
            FieldSpec.Metric.COUNTER if file == "full_scans" else FieldSpec.Metric.GAUGE,
        )
        for name, file, unit, text in FILES
    ),
    *(FieldSpec(name, unit, Scope.HOST, text, source) for name, unit, text, source in _DERIVED),
    FieldSpec("ksm_clock", Unit.SECONDS, Scope.HOST, _CLOCK, "the clock of mom", FieldSpec.Metric.NONE),
    FieldSpec("ksmd_cpu_pages", Unit.PAGES, Scope.HOST, _PAGES, "ksm_pages_to_scan", FieldSpec.Metric.NONE),
)

_SUGGESTED = (
    ("ksm_suggested_run", Unit.COUNT, "ksm_run"),
    ("ksm_suggested_pages", Unit.PAGES, "ksm_pages_to_scan"),
    ("ksm_suggested_sleep", Unit.MILLISECONDS, "ksm_sleep_millisecs"),
)

LAW_FIELDS = (
    *(
        FieldSpec(name, unit, Scope.HOST, f"value that the KSM law suggests for {knob}; unknown: no change", "mom", reason="ksm_reason")
        for name, unit, knob in _SUGGESTED
    ),
    FieldSpec("ksm_reason", Unit.TEXT, Scope.HOST, "reason of the KSM law's suggestion, such as look or rest", "mom"),
    *(FieldSpec.reads(name, Unit.KIB, Scope.GUEST) for name in ("balloon_max", "balloon_cur", "rss")),
)


def ksm_fields(files: Mapping[str, Value], page_size: int) -> dict[str, Value]:
    """Return the fields of KSM that mom can compute from a single sample.

    :param files: values of KSM's files keyed by file name, and `shareable_kib`
    :param page_size: bytes
    """
    fields = {name: files.get(file) for name, file, unit, _ in FILES if _fits(files.get(file), unit)}
    made = {
        "ksm_shareable": kib if is_count(kib := files.get("shareable_kib")) else None,
        "ksm_tracked": tracked_kib(files, page_size),
        "ksm_saved": saved_kib(files, page_size),
    }
    return {**fields, **{name: value for name, value in made.items() if value is not None}}


def _fits(value: Value, unit: Unit) -> bool:
    return isinstance(value, str) if unit is Unit.TEXT else is_count(value) or (unit is Unit.BYTES and _is_number(value))


_BOOK_BYTES = 64
"""Size of struct ksm_rmap_item on 64-bit systems. KSM has one per scanned page."""


def saved_kib(files: Mapping[str, Value], page_size: int) -> int | None:
    """Return the KiB that KSM saves, minus the memory for KSM's own data; None if unknown.

    Without general_profit (before Linux 6.4), the page counters give the same result.
    """
    profit = files.get("general_profit")
    if _is_number(profit):
        return profit // 1024
    sharing, looked_at = files.get("pages_sharing"), tracked_kib(files, page_size)
    if not is_count(sharing) or looked_at is None:
        return None
    return sharing * page_size // 1024 - looked_at * _BOOK_BYTES // page_size


def tracked_kib(files: Mapping[str, Value], page_size: int) -> int | None:
    """Return the KiB that ksmd has scanned; None if a counter is unknown."""
    counts = [count for file in _MANAGED if is_count(count := files.get(file))]
    return sum(counts) * page_size // 1024 if len(counts) == len(_MANAGED) else None


def is_count(value: object) -> TypeGuard[int]:
    """Return whether `value` is a whole number, 0 or more."""
    return _is_number(value) and value >= 0


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


_LEAST_BETWEEN = 1.0
"""Shortest measurement in seconds, because the kernel counts CPU time in hundredths of a second."""


class CpuUsage:
    """Meter of ksmd's CPU usage, over at least 1 s at constant scan speed."""

    def __init__(self) -> None:
        self._base: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None
        self._speed: Value = None
        self._percent: float | None = None
        self.pages: Value = None
        """Pages per batch during the last measurement."""

    def percent(self, cpu_seconds: float | None, now: float, pages: Value = None) -> float | None:
        """Return ksmd's usage in percent of one CPU; None at first, after a gap or a restart.

        :param cpu_seconds: CPU time that ksmd has used so far; None if unknown
        :param now: monotonic seconds
        :param pages: pages per batch now
        """
        base = self._base
        if base is None or cpu_seconds is None or cpu_seconds < base[0]:
            self._base = self._last = None if cpu_seconds is None else (cpu_seconds, now)
            self._speed, self._percent, self.pages = pages, None, None
            return None
        if pages != self._speed and self._last is not None:
            # mom has set the new speed right after the last sample, so its measurement begins there.
            self._base = base = self._last
        if now - base[1] >= _LEAST_BETWEEN:
            self._base, self._percent, self.pages = (cpu_seconds, now), 100 * (cpu_seconds - base[0]) / (now - base[1]), pages
        self._last, self._speed = (cpu_seconds, now), pages
        return self._percent


_PAGE_SECONDS = 3e-6
"""Assumed CPU time per page if ksmd's CPU time is unknown."""

_LEAST_SECONDS = 0.05
"""mom judges full scans once they have used this many CPU seconds."""

_LONG_SECONDS = 60.0
"""After this many CPU seconds, mom judges even an unfinished scan, because scans of some TiB take an hour."""


class _Mark(NamedTuple):
    saved_kib: int
    full_scans: int
    cpu_seconds: float


class Yield:
    """Meter of the memory that full scans save per CPU second of ksmd."""

    def __init__(self) -> None:
        self._mark: _Mark | None = None
        self._last: float | None = None
        self._estimated, self._scans = 0.0, 0

    def kib_per_second(self, files: Mapping[str, Value], page_size: int) -> float | None:
        """Return the KiB saved per CPU second by the last scan that mom has judged; None before the first."""
        saved, scans, looked_at = saved_kib(files, page_size), files.get("full_scans"), tracked_kib(files, page_size)
        if saved is None or looked_at is None or not is_count(scans):
            self._mark = self._last = None
            return None
        seconds = self._spent(files, scans, looked_at * 1024 // page_size)
        now, mark = _Mark(saved, scans, seconds), self._mark
        if mark is None or scans < mark.full_scans or seconds < mark.cpu_seconds or files.get("run") == 2:
            self._mark, self._last = now, None
            return None
        used = seconds - mark.cpu_seconds
        if (scans > mark.full_scans and used >= _LEAST_SECONDS) or used >= _LONG_SECONDS:
            self._last, self._mark = round((saved - mark.saved_kib) / used, 1), now
        return self._last

    def _spent(self, files: Mapping[str, Value], scans: int, pages: int) -> float:
        seconds = files.get("ksmd_cpu_seconds")
        if isinstance(seconds, int | float):
            return float(seconds)
        self._estimated += max(0, scans - self._scans) * pages * _PAGE_SECONDS
        self._scans = scans
        return self._estimated
