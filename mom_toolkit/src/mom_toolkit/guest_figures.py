"""Figures of guests that a person looks at: each declared once, for `mom guests`, `mom top`, the web page and the metrics.

A plugin gives those of its own fields by `mom_guest_columns`. Those of fields that hypervisors' plugins have, whichever it is, stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mom_core import Declarations, Scope, Snapshot, Unit, Value, as_number
from mom_toolkit.health import PRESSURE_PERCENT, STALE_SECONDS, SWAP_IN_KIB

REMARKS: Final = "remarks"
"""The column of prose at the end: what several plugins remark on a guest is joined."""


@dataclass(frozen=True, slots=True)
class GuestColumn:
    """A figure of each guest. Where several plugins have one of a name, the first plugin's counts.

    :param name: its heading in `mom guests`, `mom top` and on the page
    :param fields: what it is made of; where no plugin declares any of these, there is no such column
    :param unit: of its values, by which each surface writes them
    :param about: what it is, as a sentence without its full stop
    :param place: its place among the columns; the smaller first
    :param rank: where there is too little room, columns of the highest rank are left out first; those of rank 0 stay.
        None: it is only a metric
    :param metric: its name among metrics, in base units; empty: it is none
    :param mark_from: a value from which on it is marked
    :param made: its value, by a guest's fields; without it, the first of the fields that is known
    """

    name: str
    fields: tuple[str, ...]
    unit: Unit
    about: str
    place: int = 50
    rank: int | None = 0
    metric: str = ""
    mark_from: float | None = None
    made: Callable[[Mapping[str, Value]], Value] | None = None

    @property
    def key(self) -> str:
        """Where its values stand in the table of guests: the field's column, or one of its own, whose name no field can have."""
        return self.fields[0] if self.made is None and len(self.fields) == 1 else f"column.{self.name}"

    def value(self, fields: Mapping[str, Value]) -> Value:
        """Of a guest with these fields; None where it is unknown, also where its plugin cannot say."""
        if self.made is None:
            return next((value for name in self.fields if (value := fields.get(name)) is not None), None)
        try:
            return self.made(fields)
        except Exception:  # noqa: BLE001  # a plugin's mistake, or a field that is of another kind than it thinks: the other columns stand
            return None

    def values(self, snapshot: Snapshot) -> Sequence[Value]:
        """Of all guests, in the snapshot's order."""
        if self.made is None and len(self.fields) == 1:
            return snapshot.column(self.fields[0])
        rows = zip(*map(snapshot.column, self.fields), strict=True)
        return [self.value(dict(zip(self.fields, row, strict=True))) for row in rows]


def guest_columns(declarations: Declarations) -> Sequence[GuestColumn]:
    """The usual columns and those of plugins, as far as their fields are declared, in their order; remarks last and joined."""
    declared = {name for scope, name in declarations.fields if scope is Scope.GUEST}
    offered = [one for one in declarations.guest_columns if isinstance(one, GuestColumn)]
    columns = [column for column in (*offered, *USUAL) if declared.intersection(column.fields)]
    found: dict[str, GuestColumn] = {}
    for column in columns:
        if column.name != REMARKS:
            found.setdefault(column.name, column)
    made = sorted(found.values(), key=lambda column: column.place)
    remarking = [column for column in columns if column.name == REMARKS]
    if not remarking:
        return made

    def joined(fields: Mapping[str, Value]) -> str | None:
        return "; ".join(dict.fromkeys(str(value) for one in remarking if (value := one.value(fields)))) or None

    sources = tuple(dict.fromkeys(name for one in remarking for name in one.fields))
    return [*made, GuestColumn(REMARKS, sources, Unit.TEXT, "; ".join(one.about for one in remarking), made=joined)]


def _used(fields: Mapping[str, Value]) -> float | None:
    size, usable = as_number(fields.get("balloon_cur")), as_number(fields.get("mem_usable"))
    return None if size is None or usable is None else max(0.0, size - usable)


def _swapping(fields: Mapping[str, Value]) -> float | None:
    rates = [rate for name in _SWAPS if (rate := as_number(fields.get(name))) is not None]
    return sum(rates) if rates else None


_SWAPS: Final = ("swap_in", "swap_out")
_PRESSURE: Final = ("guest_psi_memory_some_avg10", "host_psi_memory_some_avg10")

USUAL: Final = (
    GuestColumn("size", ("balloon_cur",), Unit.KIB, "its memory with its balloon as it is", 20, metric="mom_guest_memory_bytes"),
    GuestColumn("max", ("balloon_max",), Unit.KIB, "its memory with an empty balloon", 21, 1, "mom_guest_memory_maximum_bytes"),
    GuestColumn("used", ("balloon_cur", "mem_usable"), Unit.KIB, "its size less what is usable", 22, made=_used),
    GuestColumn("usable", ("mem_usable",), Unit.KIB, "what it could give without swapping", 23, 1, "mom_guest_memory_available_bytes"),
    GuestColumn("swap", _SWAPS, Unit.KIB_PER_SECOND, "its reads and writes of its own swap", 24, 1, mark_from=SWAP_IN_KIB, made=_swapping),
    GuestColumn("target", ("balloon_target",), Unit.KIB, "the size that mom last set", 26, 1, "mom_guest_balloon_target_bytes"),
    GuestColumn(
        "pressure",
        _PRESSURE,
        Unit.PERCENT,
        "time that it waited for memory, of the last 10 s",
        46,
        1,
        mark_from=PRESSURE_PERCENT,
    ),
    GuestColumn("age", ("stats_age",), Unit.SECONDS, "age of its statistics", 47, 2, "mom_guest_statistics_age_seconds", STALE_SECONDS),
    *(
        GuestColumn(name, (name,), unit, about, rank=None, metric=metric)
        for name, unit, metric, about in (
            ("vcpu_count", Unit.COUNT, "mom_guest_vcpus", "its virtual CPUs"),
            ("mem_available", Unit.KIB, "mom_guest_memory_total_bytes", "all memory that its kernel manages"),
            ("mem_unused", Unit.KIB, "mom_guest_memory_free_bytes", "memory that it uses for nothing"),
            ("mem_disk_caches", Unit.KIB, "mom_guest_memory_cached_bytes", "memory that it uses as disk cache"),
            ("rss", Unit.KIB, "mom_guest_resident_bytes", "memory of the host that its process holds"),
            ("host_swap", Unit.KIB, "mom_guest_host_swap_bytes", "memory of it that is in the host's swap"),
            ("swap_in", Unit.KIB_PER_SECOND, "mom_guest_swap_in_bytes_per_second", "read back from its own swap"),
            ("swap_out", Unit.KIB_PER_SECOND, "mom_guest_swap_out_bytes_per_second", "written to its own swap"),
            ("major_fault", Unit.PER_SECOND, "mom_guest_major_faults_per_second", "page faults in it that needed I/O"),
        )
    ),
)
