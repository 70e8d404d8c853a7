"""The fields of the simulated host and guests: declared as those of a real one, and read off the model."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mom_core import Columns, FieldSpec, Metric, Scope, Unit, Value
from mom_plugins_sim.guest import PAGE
from mom_plugins_sim.host import WINDOWS
from mom_plugins_sim.numa import FAR, NEAR, GuestOnNodes, Nodes, cpu_text
from mom_plugins_sim.statistics import SentFigures
from mom_plugins_sim.world import CPUS, VCPUS, SimulatedGuest, World

SOURCE = "simulation"

_TIME = {
    **dict.fromkeys(("year", "month", "day", "hour", "minute"), Unit.COUNT),
    "second": Unit.SECONDS,
    "microsecond": Unit.MICROSECONDS,
}

_HOST = (
    ("mem_available", Unit.KIB, "memory that the host has in total"),
    ("mem_unused", Unit.KIB, "memory that holds nothing at all"),
    ("mem_free", Unit.KIB, "memory that is unused or holds page cache"),
    ("mem_really_available", Unit.KIB, "memory that programs can have without swapping"),
    ("mem_cached", Unit.KIB, "page cache"),
    ("mem_shmem", Unit.KIB, "shared memory"),
    ("anon_pages", Unit.KIB, "anonymous memory, such as that of guests"),
    ("swap_total", Unit.KIB, "swap space"),
    ("swap_usage", Unit.KIB, "swap space in use"),
    ("swap_in", Unit.PAGES, "pages read back from swap since the last sample"),
    ("swap_out", Unit.PAGES, "pages written to swap since the last sample"),
    ("swap_in_rate", Unit.PAGES_PER_SECOND, "pages read back from swap a second since the last sample"),
    ("swap_out_rate", Unit.PAGES_PER_SECOND, "pages written to swap a second since the last sample"),
    ("page_size", Unit.KIB, "the size of a page"),
    ("cpu_count", Unit.COUNT, "CPUs"),
    ("hugepages_total", Unit.COUNT, "huge pages in the pool"),
    ("hugepages_free", Unit.COUNT, "huge pages that are not allocated"),
    ("psi_memory_some_total", Unit.MICROSECONDS, "time that any task waited for memory"),
    ("psi_memory_full_total", Unit.MICROSECONDS, "time that all tasks waited for memory"),
    *((f"psi_memory_some_avg{window}", Unit.PERCENT, f"time that any task waited for memory, of {window} s") for window in WINDOWS),
    *((f"psi_memory_full_avg{window}", Unit.PERCENT, f"time that all tasks waited for memory, of {window} s") for window in WINDOWS),
    ("numa_node_count", Unit.COUNT, "NUMA nodes with memory"),
    ("numa_nodes", Unit.LIST, "for each NUMA node `node`, `total`, `free` and `available` (KiB), `cpus`, and `distances` to all nodes"),
    ("numa_imbalance", Unit.PERCENT, "used share of the fullest NUMA node less that of the emptiest"),
    ("numa_available_least", Unit.KIB, "memory that can be had on the NUMA node that has the least of it"),
    *((f"time_{part}", unit, f"local time of the simulated host: {part}") for part, unit in _TIME.items()),
    ("sim_lost", Unit.SECONDS, "work that all guests' programs could not do for want of memory: only a simulation knows"),
    ("sim_killed", Unit.COUNT, "how often guests' kernels have killed programs for want of memory: only a simulation knows"),
)  # fmt: skip

_GUEST = (
    ("balloon_cur", Unit.KIB, "the size that the balloon leaves the guest"),
    ("balloon_max", Unit.KIB, "the largest size that the guest can have"),
    ("mem_available", Unit.KIB, "memory that the guest's kernel has in total"),
    ("mem_unused", Unit.KIB, "memory in the guest that holds nothing at all"),
    ("mem_usable", Unit.KIB, "memory in the guest that programs can have without swapping"),
    ("mem_disk_caches", Unit.KIB, "page cache in the guest"),
    ("swap_in", Unit.KIB_PER_SECOND, "read back from the guest's swap"),
    ("swap_out", Unit.KIB_PER_SECOND, "written to the guest's swap"),
    ("major_fault", Unit.PER_SECOND, "page faults that had to wait for a disk"),
    ("minor_fault", Unit.PER_SECOND, "page faults that did not wait"),
    ("stats_age", Unit.SECONDS, "age of the guest's own statistics"),
    ("balloon_stats_period", Unit.SECONDS, "time between two statistics"),
    ("balloon_reporting", Unit.FLAG, "1: free page reporting is on; 0: it is off"),
    ("balloon_autodeflate", Unit.FLAG, "1: the balloon gives memory back by itself when the guest runs out; 0: it does not"),
    ("vcpu_count", Unit.COUNT, "virtual CPUs of the guest"),
    ("rss", Unit.KIB, "memory of the host that the guest's process holds"),
    ("host_swap", Unit.KIB, "memory of the guest that is in the host's swap"),
    ("host_minor_faults", Unit.COUNT, "page faults of the guest's process that did not wait, since the last sample"),
    ("host_major_faults", Unit.COUNT, "page faults of the guest's process that had to wait for a disk, since the last sample"),
    ("numa_memory", Unit.LIST, "for each NUMA node `node`, and `size` (KiB) of the guest's memory there"),
    ("numa_memory_age", Unit.SECONDS, "how long ago it was looked where the guest's memory is"),
    ("numa_node", Unit.COUNT, "the NUMA node that holds most of the guest's memory"),
    ("numa_cpus", Unit.LIST, "for each NUMA node `node`, and the `share` (ratio) of the guest's CPU time there, over a few minutes"),
    ("numa_vcpu_usage", Unit.PERCENT, "CPU time of the guest's vCPUs, 100 being one host CPU"),
    ("numa_remote", Unit.RATIO, "share of the guest's memory accesses that go to another NUMA node, if all memory is used alike"),
    ("sim_need", Unit.KIB, "the size below which the guest's programs do not fit: only a simulation knows"),
    ("sim_squeezed", Unit.KIB, "memory that the guest's programs want and cannot have: only a simulation knows"),
    ("sim_lost", Unit.SECONDS, "work that the guest's programs could not do for want of memory that is near: only a simulation knows"),
    ("sim_killed", Unit.COUNT, "how often the guest's kernel has killed its programs for want of memory: only a simulation knows"),
)  # fmt: skip

_METRICS = {
    **dict.fromkeys(("psi_memory_some_total", "psi_memory_full_total", "sim_lost", "sim_killed"), Metric.COUNTER),
    **dict.fromkeys(("swap_in", "swap_out", *(f"time_{part}" for part in _TIME)), Metric.NONE),
}

FIELDS = (
    *(FieldSpec(name, unit, Scope.HOST, text, SOURCE, _METRICS.get(name, Metric.GAUGE)) for name, unit, text in _HOST),
    *(FieldSpec(name, unit, Scope.GUEST, text, SOURCE) for name, unit, text in _GUEST),
)


class HostSampler:
    """Reads the host, and remembers the counters of the last time."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None

    def fields(self, world: World) -> dict[str, Value]:
        """The host's fields now."""
        host = world.host
        available = host.available
        unused = host.unused
        cached = max(0.0, host.reserve + available - unused)
        fields: dict[str, Value] = {
            "mem_available": int(host.total),
            "mem_unused": int(unused),
            "mem_free": int(unused + cached),
            "mem_really_available": int(available),
            "mem_cached": int(cached),
            "mem_shmem": 0,
            "anon_pages": int(host.base + host.other + host.guests - host.swapped),
            "swap_total": int(host.swap.size),
            "swap_usage": int(host.swapped),
            "page_size": PAGE,
            "cpu_count": CPUS,
            "hugepages_total": 0,
            "hugepages_free": 0,
            "psi_memory_some_total": int(host.some_total_us),
            "psi_memory_full_total": int(host.some_total_us / 2),
        }
        for window, percent in host.some.items():
            fields[f"psi_memory_some_avg{window}"] = round(percent, 2)
            fields[f"psi_memory_full_avg{window}"] = round(percent / 2, 2)
        fields["sim_lost"] = round(world.lost_seconds + sum(guest.memory.lost_seconds for guest in world.guests.values()), 3)
        fields["sim_killed"] = world.killed + sum(guest.memory.killed for guest in world.guests.values())
        now = datetime.fromtimestamp(world.scene.begins, UTC) + timedelta(seconds=world.time)
        fields.update({f"time_{part}": getattr(now, part) for part in _TIME})
        if world.nodes is not None:
            fields.update(_node_fields(world.nodes))
        self._add_swapping(fields, world)
        return fields

    def _add_swapping(self, fields: dict[str, Value], world: World) -> None:
        now = (world.time, world.host.swap_in / PAGE, world.host.swap_out / PAGE)
        last, self._last = self._last, now
        if last is None:
            return
        pages_in, pages_out = int(now[1] - last[1]), int(now[2] - last[2])
        fields["swap_in"], fields["swap_out"] = pages_in, pages_out
        seconds = now[0] - last[0]
        if seconds > 0:
            fields["swap_in_rate"], fields["swap_out_rate"] = pages_in / seconds, pages_out / seconds


_LOOKED_AT = ("stats_age", "balloon_stats_period", "balloon_reporting", "balloon_autodeflate", "balloon_cur", "balloon_max",
              "vcpu_count", "rss", "host_swap", "sim_need", "sim_squeezed", "sim_lost", "sim_killed",
              "host_minor_faults", "host_major_faults")  # fmt: skip
"""What the host sees of a guest besides what that tells."""


def guest_columns(guests: Sequence[SimulatedGuest], time: float) -> dict[str, Sequence[Value]]:
    """The fields of guests now."""
    names = (*SentFigures._fields, *_LOOKED_AT)
    columns: dict[str, Sequence[Value]] = dict(zip(names, zip(*[_row(guest, time) for guest in guests], strict=True), strict=False))
    if any(guest.on is not None for guest in guests):
        columns.update(Columns.of_rows([{} if guest.on is None else _placement_fields(guest.on) for guest in guests]))
    return columns


def _row(guest: SimulatedGuest, time: float) -> tuple[Value, ...]:
    """What a guest tells, and what is seen of it, in the order of the names. What is 0 for nearly all guests is not worked out."""
    memory, sent, swapped = guest.memory, guest.statistics, guest.swapped
    away, minor, major, lost = swapped.total, memory.minor_faults, swapped.faults, memory.lost_seconds
    seen_minor, seen_major = guest.seen_faults
    guest.seen_faults = (minor, major)
    told, age = sent.by(time)
    usable = told.mem_usable
    guest.seen = None if usable is None else (memory.size, usable, sent.at, told)
    return (
        *told,
        age,
        None if sent.silent else sent.period,
        *((None, None) if guest.rigid else (int(memory.reporting), int(memory.autodeflate))),
        int(memory.size),
        int(memory.maximum),
        VCPUS,
        int(memory.touched - away + memory.beside),
        int(away) if away else 0,
        int(memory.need),
        int(memory.squeezed) if memory.squeezed else 0,
        round(lost * 1000) / 1000 if lost else 0.0,  # a third of the time of round(…, 3)
        memory.killed,
        int(minor - seen_minor) if minor != seen_minor else 0,
        int(major - seen_major) if major > seen_major else 0,
    )


def _node_fields(nodes: Nodes) -> dict[str, Value]:
    free = [max(0, int(size)) for size in nodes.free]
    used = [100 * (1 - size / nodes.total) for size in free]
    numbers = range(nodes.count)
    return {
        "numa_node_count": nodes.count,
        "numa_nodes": [
            {
                "node": node,
                "total": int(nodes.total),
                "free": free[node],
                "available": free[node],
                "cpus": cpu_text(nodes.cpus[node]),
                "distances": [NEAR if other == node else FAR for other in numbers],
            }
            for node in numbers
        ],
        "numa_imbalance": round(max(used) - min(used), 2),
        "numa_available_least": min(free),
    }


def _placement_fields(on: GuestOnNodes) -> dict[str, Value]:
    held = [int(size) for size in on.held]
    if not on.usual:  # the first step is still to come
        return {}
    return {
        "numa_memory": [{"node": node, "size": size} for node, size in enumerate(held)],
        "numa_memory_age": 0.0,
        "numa_node": held.index(max(held)),
        "numa_cpus": [{"node": node, "share": round(share, 4)} for node, share in enumerate(on.usual)],
        "numa_vcpu_usage": round(100 * on.busy * VCPUS, 1),
        "numa_remote": round(on.remote(on.usual), 4),
    }
