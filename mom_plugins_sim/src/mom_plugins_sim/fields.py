"""Fields of the simulated host and guests, declared like real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mom_core import Columns, FieldSpec, Scope, Unit, Value, format_kib
from mom_kvm import GuestField, SimulationSetup
from mom_plugins_sim.guest import PAGE, SentFigures
from mom_plugins_sim.host import WINDOWS
from mom_plugins_sim.world import CPUS, VCPUS, SimulatedGuest, World

SOURCE = "simulation"

_TIME = {**dict.fromkeys(("year", "month", "day", "hour", "minute"), Unit.COUNT), "second": Unit.SECONDS, "microsecond": Unit.MICROSECONDS}

_HOST: tuple[tuple[str, Unit, str, Callable[[World], Value]], ...] = (
    ("mem_available", Unit.KIB, "memory that the host has in total", lambda world: int(world.host.total)),
    ("mem_unused", Unit.KIB, "memory that is completely unused", lambda world: int(world.host.unused)),
    ("mem_free", Unit.KIB, "memory that is unused or holds page cache", lambda world: int(world.host.unused + world.host.cached)),
    ("mem_really_available", Unit.KIB, "memory that programs can use without swapping", lambda world: int(world.host.available)),
    ("mem_cached", Unit.KIB, "page cache", lambda world: int(world.host.cached)),
    ("mem_shmem", Unit.KIB, "shared memory", lambda world: 0),
    ("anon_pages", Unit.KIB, "anonymous memory, such as that of guests", lambda world: int(world.host.anonymous)),
    ("mem_other_processes", Unit.KIB, "anonymous memory of programs outside the guests", lambda world: int(world.host.other) or None),
    ("largest_processes", Unit.TEXT, "the largest program outside the guests",
     lambda world: f"a program outside the guests {format_kib(world.host.other)}" if world.host.other else None),
    ("swap_total", Unit.KIB, "swap space", lambda world: int(world.host.swap.size)),
    ("swap_usage", Unit.KIB, "swap space in use", lambda world: int(world.host.swapped)),
    ("page_size", Unit.KIB, "the size of a page", lambda world: PAGE),
    ("cpu_count", Unit.COUNT, "CPUs", lambda world: CPUS),
    ("hugepages_total", Unit.COUNT, "huge pages in the pool", lambda world: 0),
    ("hugepages_free", Unit.COUNT, "huge pages that are not allocated", lambda world: 0),
    ("psi_memory_some_total", Unit.MICROSECONDS, "time that any task waited for memory", lambda world: int(world.host.some_total_us)),
    ("psi_memory_full_total", Unit.MICROSECONDS, "time that all tasks waited for memory", lambda world: int(world.host.some_total_us / 2)),
    ("sim_lost", Unit.SECONDS, "working time that all guests' programs lost for lack of memory: known only in a simulation",
     lambda world: round(world.lost_seconds + sum(memory.lost_seconds for memory in world.memories()), 3)),
    ("sim_killed", Unit.COUNT, "OOM kills in all guests: known only in a simulation",
     lambda world: world.killed + sum(memory.killed for memory in world.memories())),
)  # fmt: skip

_COUNTED = (
    ("swap_in", Unit.PAGES, "pages read back from swap since the last sample"),
    ("swap_out", Unit.PAGES, "pages written to swap since the last sample"),
    ("swap_in_rate", Unit.PAGES_PER_SECOND, "pages read back from swap per second, since the last sample"),
    ("swap_out_rate", Unit.PAGES_PER_SECOND, "pages written to swap per second, since the last sample"),
    *((f"psi_memory_some_avg{window}", Unit.PERCENT, f"share of {window} s in which any task waited for memory") for window in WINDOWS),
    *((f"psi_memory_full_avg{window}", Unit.PERCENT, f"share of {window} s in which all tasks waited for memory") for window in WINDOWS),
    *((f"time_{part}", unit, f"local time of the simulated host: {part}") for part, unit in _TIME.items()),
)

_ONLY = "known only in a simulation"

_SIMULATED = (
    ("sim_need", Unit.KIB, f"smallest size that fits the guest's programs: {_ONLY}"),
    ("sim_squeezed", Unit.KIB, f"memory that the guest's programs demand and do not get: {_ONLY}"),
    ("sim_lost", Unit.SECONDS, f"working time that the guest's programs lost for lack of memory: {_ONLY}"),
    ("guest_oom_kills", Unit.COUNT, "OOM kills in the guest since its boot"),
)

_OBSERVED = ("stats_age", "balloon_stats_period", "balloon_reporting", "balloon_autodeflate", "balloon_cur", "balloon_max",
              "vcpu_count", "rss", "host_swap", "sim_need", "sim_squeezed", "sim_lost", "guest_oom_kills",
              "host_minor_faults", "host_major_faults")  # fmt: skip
"""Fields of a guest that the host observes; the guest sends the others."""

_OF_GUESTS = (*SentFigures._fields, *_OBSERVED)
_GONE = (None,) * len(_OF_GUESTS)

_METRICS = {
    **dict.fromkeys(("psi_memory_some_total", "psi_memory_full_total", "sim_lost", "sim_killed"), FieldSpec.Metric.COUNTER),
    **dict.fromkeys(("mem_other_processes", "swap_in", "swap_out", *(f"time_{part}" for part in _TIME)), FieldSpec.Metric.NONE),
}

FIELDS = (
    *(
        FieldSpec(name, unit, Scope.HOST, text, SOURCE, _METRICS.get(name, FieldSpec.Metric.GAUGE))
        for name, unit, text in (*(row[:3] for row in _HOST), *_COUNTED)
    ),
    *(replace(spec, source=SOURCE) for spec in GuestField.ALL if spec.name in _OF_GUESTS),
    *(FieldSpec(name, unit, Scope.GUEST, text, SOURCE) for name, unit, text in _SIMULATED),
)


class HostSampler:
    """Reader of the host's fields. Keeps the last counters to compute rates."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None

    def fields(self, world: World) -> dict[str, Value]:
        """Return the host's fields."""
        fields = {name: value(world) for name, _, _, value in _HOST}
        for window, percent in world.host.some.items():
            fields[f"psi_memory_some_avg{window}"] = round(percent, 2)
            fields[f"psi_memory_full_avg{window}"] = round(percent / 2, 2)
        now = datetime.fromtimestamp(SimulationSetup.BEGINS, UTC) + timedelta(seconds=world.time)
        fields.update({f"time_{part}": getattr(now, part) for part in _TIME})
        counts = (world.time, world.host.swap_in / PAGE, world.host.swap_out / PAGE)
        last, self._last = self._last, counts
        if last is not None:
            seconds, pages_in, pages_out = counts[0] - last[0], int(counts[1] - last[1]), int(counts[2] - last[2])
            fields["swap_in"], fields["swap_out"] = pages_in, pages_out
            if seconds > 0:
                fields["swap_in_rate"], fields["swap_out_rate"] = pages_in / seconds, pages_out / seconds
        return fields


def guest_columns(guests: Sequence[SimulatedGuest | None], time: float) -> Columns:
    """Return guests' fields. None in `guests` stands for a guest that is gone."""
    rows = zip(*[_GONE if guest is None else _row(guest, time) for guest in guests], strict=True)
    return Columns(dict(zip(_OF_GUESTS, rows, strict=False)))


def _row(guest: SimulatedGuest, time: float) -> tuple[Value, ...]:
    memory, sent, swapped = guest.memory, guest.statistics, guest.swapped
    away, minor, major, lost = swapped.total, memory.minor_faults, swapped.faults, memory.lost_seconds
    old_minor, old_major = guest.reported_faults
    guest.reported_faults = (minor, major)
    figures, age = sent.at_time(time)
    usable = figures.mem_usable
    guest.view = None if usable is None else (memory.size, usable, sent.at, figures)
    return (
        *figures,
        age,
        None if sent.silent else sent.period,
        *((None, None) if guest.scene.rigid else (int(memory.traits.reporting), int(memory.traits.autodeflate))),
        int(memory.size),
        int(memory.maximum),
        VCPUS,
        int(memory.touched - away + memory.traits.qemu_overhead),
        int(away) if away else 0,
        int(memory.need),
        int(memory.squeezed) if memory.squeezed else 0,
        round(lost * 1000) / 1000 if lost else 0.0,  # a third of the time of round(…, 3)
        memory.killed,
        int(minor - old_minor) if minor != old_minor else 0,
        int(major - old_major) if major > old_major else 0,
    )
