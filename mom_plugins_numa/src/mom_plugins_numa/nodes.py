"""The host's NUMA nodes, from /sys/devices/system/node: memory, CPUs, distances, and what the kernel counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mom_core import Value
from mom_plugins_numa.numbers import format_list, parse_list
from mom_toolkit import read_kernel_file

BALANCING = "proc/sys/kernel/numa_balancing"

_FOLDER = "sys/devices/system/node"
_MEMORY = re.compile(rb"^Node +[0-9]+ +([A-Za-z()_]+): +([0-9]{1,15})", re.MULTILINE)
_COUNTER = re.compile(rb"^([a-z_]+) ([0-9]{1,20})$", re.MULTILINE)
_MIGRATED = re.compile(rb"^numa_pages_migrated ([0-9]{1,20})$", re.MULTILINE)
_NODE = re.compile(r"node([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One node. Sizes in KiB; `distances` by node, 10 being near; `counters` in pages since the start."""

    number: int
    total: int
    free: int
    file_cache: int
    cpus: frozenset[int] = frozenset()
    distances: Sequence[int] = ()
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """What can be had there without swapping: what is free, and half of the page cache.

        The kernel estimates that for the whole host only (MemAvailable), and takes it that half of the cache is worth keeping at most.
        """
        return self.free + self.file_cache // 2


def read_nodes(root: Path) -> list[NumaNode]:
    """All nodes that are online, by number; without those whose files cannot be read. Empty on a kernel without NUMA."""
    folder = root / _FOLDER
    try:
        numbers = sorted(int(match[1]) for path in folder.iterdir() if (match := _NODE.fullmatch(path.name)))
    except OSError:
        return []
    nodes = (_read_node(folder / f"node{number}", number, len(numbers)) for number in numbers)
    return [node for node in nodes if node is not None]


def _read_node(folder: Path, number: int, count: int) -> NumaNode | None:
    sizes = {name: int(size) for name, size in _MEMORY.findall(read_kernel_file(folder / "meminfo"))}
    total, free = sizes.get(b"MemTotal"), sizes.get(b"MemFree")
    if total is None or free is None:
        return None
    cache = sizes.get(b"Active(file)", 0) + sizes.get(b"Inactive(file)", 0)
    cpus = parse_list(read_kernel_file(folder / "cpulist").decode("ascii", "replace")) or frozenset()
    words = read_kernel_file(folder / "distance").split()
    distances = [int(word) for word in words] if len(words) == count and all(word.isdigit() for word in words) else []
    counters = {name.decode(): int(value) for name, value in _COUNTER.findall(read_kernel_file(folder / "numastat"))}
    return NumaNode(number, total, free, cache, cpus, distances, counters)


def cpus_to_nodes(nodes: Sequence[NumaNode]) -> dict[int, int]:
    """On which node each CPU is."""
    return {cpu: node.number for node in nodes for cpu in node.cpus}


def with_memory(nodes: Sequence[NumaNode]) -> list[NumaNode]:
    """Those that have any: expanders and accelerators bring nodes without memory, or without CPUs."""
    return [node for node in nodes if node.total > 0]


def counted(root: Path, nodes: Sequence[NumaNode]) -> dict[str, int]:
    """The kernel's counts since the start, of all nodes together, by the field of their rate."""
    counts = {
        f"{counter}_rate": sum(node.counters[counter] for node in nodes)
        for counter in ("numa_hit", "numa_miss")
        if nodes and all(counter in node.counters for node in nodes)
    }
    try:
        text = (root / "proc/vmstat").read_bytes()  # a list, of which one read gives a page
    except OSError:
        text = b""
    migrated = _MIGRATED.search(text)
    return counts | ({} if migrated is None else {"numa_migrated_rate": int(migrated[1])})


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
        return {
            name: round((count - before[1][name]) / seconds, 2) for name, count in counts.items() if count >= before[1].get(name, count + 1)
        }


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
            "distances": list(node.distances),
        }
        for node in nodes
    ]
    return {
        "numa_node_count": len(there),
        "numa_nodes": listed,
        "numa_imbalance": round(max(used) - min(used), 2),
        "numa_available_least": min(node.available for node in there),
    }
