"""The host's NUMA nodes, from /sys/devices/system/node: memory, CPUs, distances, and what the kernel counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mom_core import Value
from mom_plugins_numa.numbers import format_list, parse_list

FOLDER = "sys/devices/system/node"
BALANCING = "proc/sys/kernel/numa_balancing"

_MEMORY = re.compile(rb"^Node +[0-9]+ +([A-Za-z()_]+): +([0-9]{1,15})", re.MULTILINE)
_COUNTER = re.compile(rb"^([a-z_]+) ([0-9]{1,20})$", re.MULTILINE)
_NODE = re.compile(r"node([0-9]{1,4})")

COUNTERS: Mapping[str, str] = {
    "numa_hit": "numa_hit_rate",
    "numa_miss": "numa_miss_rate",
    "numa_foreign": "numa_foreign_rate",
    "other_node": "numa_other_rate",
}
"""Of /sys/devices/system/node/node*/numastat: the file's name for it, and the field's."""

MIGRATIONS: Mapping[str, str] = {"numa_pages_migrated": "numa_migrated_rate", "numa_hint_faults": "numa_hint_fault_rate"}
"""The same of /proc/vmstat: what the kernel's own balancing does."""


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One node. Sizes in KiB; `distances` by node, 10 being near; `counters` in pages since the start."""

    number: int
    total: int
    free: int
    file_cache: int
    cpus: frozenset[int] = frozenset()
    distances: Mapping[int, int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """What can be had there without swapping: what is free, and half of the page cache.

        The kernel estimates that for the whole host only (MemAvailable), and takes it that half of the cache is worth keeping at most.
        """
        return self.free + self.file_cache // 2


def read_nodes(root: Path) -> list[NumaNode]:
    """All nodes that are online, by number; without those whose files cannot be read. Empty on a kernel without NUMA."""
    folder = root / FOLDER
    try:
        numbers = sorted(int(match[1]) for path in folder.iterdir() if (match := _NODE.fullmatch(path.name)))
    except OSError:
        return []
    found = []
    for number in numbers:
        node = _read_node(folder / f"node{number}", number, numbers)
        if node is not None:
            found.append(node)
    return found


def _read_node(folder: Path, number: int, every: Sequence[int]) -> NumaNode | None:
    sizes = {name: int(size) for name, size in _MEMORY.findall(_read(folder / "meminfo"))}
    total, free = sizes.get(b"MemTotal"), sizes.get(b"MemFree")
    if total is None or free is None:
        return None
    cache = sizes.get(b"Active(file)", 0) + sizes.get(b"Inactive(file)", 0)
    cpus = parse_list(_read(folder / "cpulist").decode("ascii", "replace")) or frozenset()
    words = _read(folder / "distance").split()
    distances = dict(zip(every, map(int, words), strict=True)) if len(words) == len(every) and all(w.isdigit() for w in words) else {}
    counters = {name.decode(): int(count) for name, count in _COUNTER.findall(_read(folder / "numastat"))}
    return NumaNode(number, total, free, cache, cpus, distances, counters)


def read_migrations(root: Path) -> dict[str, int]:
    """What the kernel's own balancing has done since the start."""
    text = _read(root / "proc/vmstat")
    return {name: int(count) for raw, count in _COUNTER.findall(text) if (name := raw.decode()) in MIGRATIONS}


def read_balancing(root: Path) -> int | None:
    """Whether the kernel moves memory and tasks together by itself: 0 off, 1 on, 2 between tiers of memory, 3 both; None: it cannot."""
    text = _read(root / BALANCING).strip()
    return int(text) if text.isdigit() and len(text) < 4 else None


def cpus_to_nodes(nodes: Sequence[NumaNode]) -> dict[int, int]:
    """On which node each CPU is."""
    return {cpu: node.number for node in nodes for cpu in node.cpus}


def with_memory(nodes: Sequence[NumaNode]) -> list[NumaNode]:
    """Those that have any: expanders and accelerators bring nodes without memory, or without CPUs."""
    return [node for node in nodes if node.total > 0]


class Rates:
    """Growing counts, per second since the last sample."""

    def __init__(self) -> None:
        self._last: tuple[float, Mapping[str, int]] | None = None

    def since(self, counts: Mapping[str, int], now: float) -> dict[str, float]:
        """Per second; without those that were not there the last time, or have gone backwards."""
        before, self._last = self._last, (now, counts)
        if before is None or now <= before[0]:
            return {}
        seconds = now - before[0]
        return {name: (count - before[1][name]) / seconds for name, count in counts.items() if count >= before[1].get(name, count + 1)}


def node_fields(nodes: Sequence[NumaNode]) -> dict[str, Value]:
    """The host's fields about its nodes; empty when there are none."""
    there = with_memory(nodes)
    if not there:
        return {}
    used = [100 * (1 - node.free / node.total) for node in there]
    listed: list[Value] = [
        {
            "node": node.number,
            "total": node.total,
            "free": node.free,
            "available": node.available,
            "cpus": format_list(node.cpus),
            "distances": list(node.distances.values()),
        }
        for node in nodes
    ]
    return {
        "numa_node_count": len(there),
        "numa_nodes": listed,
        "numa_imbalance": round(max(used) - min(used), 2),
        "numa_available_least": min(node.available for node in there),
    }


def counted(nodes: Sequence[NumaNode]) -> dict[str, int]:
    """What all nodes have counted together, by field."""
    return {
        name: sum(node.counters[counter] for node in nodes)
        for counter, name in COUNTERS.items()
        if nodes and all(counter in node.counters for node in nodes)
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
