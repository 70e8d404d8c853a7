"""KSM's files as mom's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from mom_core import FieldSpec, Metric, Scope, Unit, Value

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
    ("ksm_advisor_mode", "advisor_mode", Unit.TEXT, "none, or the kernel's active advisor, which sets pages_to_scan (scan-time)"),
)
_MANAGED = ("pages_shared", "pages_sharing", "pages_unshared", "pages_volatile")

_STATM = "/proc/PID/statm of processes with qemu in their name, or named kvm; a hypervisor with its own KSM"
_FOUR = "/sys/kernel/mm/ksm pages_shared + pages_sharing + pages_unshared + pages_volatile, times the page size"
_PROFIT = "/sys/kernel/mm/ksm/general_profit; before Linux 6.4 calculated from the page counters"
_SCAN = "ksm_saved, full_scans and /proc/PID/stat of ksmd (estimated from the scanned pages if ksmd is invisible)"
_STAT = "/proc/PID/stat of ksmd"
_CLOCK = "time when mom read these figures, on a monotonic clock"
_PAGES = "ksm_pages_to_scan while ksmd_cpu_usage was measured; for 1 s after a change, this is the earlier value"

_DERIVED = (
    ("ksm_shareable", Unit.KIB, "address space of all QEMU processes: the upper limit of mergeable memory", _STATM),
    ("ksm_tracked", Unit.KIB, "memory that ksmd has scanned so far: merged, unique and fast changing pages", _FOUR),
    ("ksm_saved", Unit.KIB, "memory that KSM saves, minus the memory for its own data; may be negative", _PROFIT),
    ("ksm_yield", Unit.KIB_PER_SECOND, "memory that ksmd's last complete scan saved per second of its CPU time; may be negative", _SCAN),
    ("ksmd_cpu_usage", Unit.PERCENT, "share of one CPU that ksmd used, measured over 1 s or more", _STAT),
)

FIELDS = (
    *(
        FieldSpec(name, unit, Scope.HOST, text, f"/sys/kernel/mm/ksm/{file}", Metric.COUNTER if file == "full_scans" else Metric.GAUGE)
        for name, file, unit, text in FILES
    ),
    *(FieldSpec(name, unit, Scope.HOST, text, source) for name, unit, text, source in _DERIVED),
    FieldSpec("ksm_clock", Unit.SECONDS, Scope.HOST, _CLOCK, "the clock of mom", Metric.NONE),
    FieldSpec("ksmd_cpu_pages", Unit.PAGES, Scope.HOST, _PAGES, "ksm_pages_to_scan", Metric.NONE),
)

_SUGGESTED = (
    ("ksm_suggested_run", Unit.COUNT, "ksm_run"),
    ("ksm_suggested_pages", Unit.PAGES, "ksm_pages_to_scan"),
    ("ksm_suggested_sleep", Unit.MILLISECONDS, "ksm_sleep_millisecs"),
)

LAW_FIELDS = (
    *(
        FieldSpec(name, unit, Scope.HOST, f"value that the KSM law suggests for {knob}; unknown for no change", "mom", reason="ksm_reason")
        for name, unit, knob in _SUGGESTED
    ),
    FieldSpec("ksm_reason", Unit.TEXT, Scope.HOST, "reason of the KSM law's suggestion, such as look or rest", "mom"),
    *(FieldSpec.reads(name, Unit.KIB, Scope.GUEST) for name in ("balloon_max", "balloon_cur", "rss")),
)


def ksm_fields(files: Mapping[str, Value], page_size: int) -> dict[str, Value]:
    """Return KSM's fields that need one sample.

    :param files: values keyed by file name, and `shareable_kib`
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
"""struct ksm_rmap_item, one per scanned page (64-bit)."""


def saved_kib(files: Mapping[str, Value], page_size: int) -> int | None:
    """Return the KiB that KSM saves, minus its own data; None if unknown.

    Without general_profit, the page counters give the same result.
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
    """Return whether this is a whole number, 0 or more."""
    return _is_number(value) and value >= 0


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
