"""Statistics of guests, as columns of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mom_core import Declarations, GuestColumn, Scope, Unit, Value, as_number
from mom_kvm import HealthLimits, stale_seconds


def guest_columns(declarations: Declarations) -> Sequence[GuestColumn]:
    """Return the usual columns and those of plugins, with all remarks in the last column."""
    declared = {name for scope, name in declarations.fields if scope is Scope.GUEST}
    columns = [column for column in (*declarations.guest_columns, *USUAL) if declared.intersection(column.fields)]
    found: dict[str, GuestColumn] = {}
    for column in columns:
        if column.name != GuestColumn.REMARKS:
            found.setdefault(column.name, column)
    made = sorted(found.values(), key=lambda column: column.place)
    remarking = [column for column in columns if column.name == GuestColumn.REMARKS]
    if not remarking:
        return made

    def joined(fields: Mapping[str, Value]) -> str | None:
        return "; ".join(dict.fromkeys(str(value) for column in remarking if (value := column.value(fields)))) or None

    sources = tuple(dict.fromkeys(name for column in remarking for name in column.fields))
    return [*made, GuestColumn(GuestColumn.REMARKS, sources, Unit.TEXT, "; ".join(column.about for column in remarking), made=joined)]


def _used(fields: Mapping[str, Value]) -> float | None:
    size, usable = as_number(fields.get("balloon_cur")), as_number(fields.get("mem_usable"))
    return None if size is None or usable is None else max(0.0, size - usable)


def _in_huge_pages(fields: Mapping[str, Value]) -> float | None:
    huge, held = as_number(fields.get("host_huge_pages")), as_number(fields.get("rss"))
    return None if huge is None or not held else min(100.0, 100 * huge / held)  # the two fields are read at different times


def _swapping(fields: Mapping[str, Value]) -> float | None:
    rates = [rate for name in _SWAPS if (rate := as_number(fields.get(name))) is not None]
    return sum(rates) if rates else None


_SWAPS: Final = ("swap_in", "swap_out")
_SWAPS_FROM, _WAITS_FROM = HealthLimits.SWAP_KIB, HealthLimits.PRESSURE_PERCENT
_HUGE: Final = ("host_huge_pages", "rss")
_PRESSURE: Final = ("guest_psi_memory_some_avg10", "host_psi_memory_some_avg10")
_OLD: Final = stale_seconds(5.0)

USUAL: Final = (
    GuestColumn("size", ("balloon_cur",), Unit.KIB, "memory at the present balloon size", 20, metric="mom_guest_memory_bytes"),
    GuestColumn("max", ("balloon_max",), Unit.KIB, "memory with an empty balloon", 21, 1, "mom_guest_memory_maximum_bytes"),
    GuestColumn("used", ("balloon_cur", "mem_usable"), Unit.KIB, "size minus usable memory", 22, made=_used),
    GuestColumn("usable", ("mem_usable",), Unit.KIB, "memory available without swapping", 23, 1, "mom_guest_memory_available_bytes"),
    GuestColumn("held", ("rss",), Unit.KIB, "host memory that the guest's process uses", 23, 4, "mom_guest_resident_bytes"),
    GuestColumn("swapped", ("host_swap",), Unit.KIB, "guest memory in the host's swap", 23, 5, "mom_guest_host_swap_bytes"),
    GuestColumn("huge pages", _HUGE, Unit.PERCENT, "part of `held` in transparent huge pages", 23, 6, made=_in_huge_pages),
    GuestColumn("swap", _SWAPS, Unit.KIB_PER_SECOND, "traffic of the guest's own swap", 24, 1, mark_from=_SWAPS_FROM, made=_swapping),
    GuestColumn("target", ("balloon_target",), Unit.KIB, "the size that mom last set", 26, 2, "mom_guest_balloon_target_bytes"),
    GuestColumn("pressure", _PRESSURE, Unit.PERCENT, "share of the last 10 s with a task waiting for memory", 46, 1, mark_from=_WAITS_FROM),
    GuestColumn("age", ("stats_age",), Unit.SECONDS, "age of the guest's statistics", 47, 2, "mom_guest_statistics_age_seconds", _OLD),
    GuestColumn("vcpus", ("vcpu_count",), Unit.COUNT, "virtual CPUs", 48, 6, "mom_guest_vcpus"),
    *(
        GuestColumn(name, (name,), unit, about, rank=None, metric=metric)
        for name, unit, metric, about in (
            ("host_huge_pages", Unit.KIB, "mom_guest_huge_pages_bytes", "memory of the guest's process in transparent huge pages"),
            ("mem_available", Unit.KIB, "mom_guest_memory_total_bytes", "all memory that the guest's kernel manages"),
            ("mem_unused", Unit.KIB, "mom_guest_memory_free_bytes", "memory that the guest does not use"),
            ("mem_disk_caches", Unit.KIB, "mom_guest_memory_cached_bytes", "page cache in the guest"),
            ("swap_in", Unit.KIB_PER_SECOND, "mom_guest_swap_in_bytes_per_second", "memory read back from the guest's own swap"),
            ("swap_out", Unit.KIB_PER_SECOND, "mom_guest_swap_out_bytes_per_second", "memory written to the guest's own swap"),
            ("major_fault", Unit.PER_SECOND, "mom_guest_major_faults_per_second", "page faults in the guest that needed I/O"),
        )
    ),
)
