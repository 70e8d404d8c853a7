"""The host's NUMA nodes, from /sys/devices/system/node: memory, CPUs and distances."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mom_core import Value
from mom_kvm import parse_number_list, read_kernel_file
from mom_plugins_host.numa.numbers import format_list

BALANCING = "proc/sys/kernel/numa_balancing"

_FOLDER = "sys/devices/system/node"
_MEMORY = re.compile(rb"^Node +[0-9]+ +([A-Za-z()_]+): +([0-9]{1,15})", re.MULTILINE)
_NODE = re.compile(r"node([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One node. Sizes in KiB; `distances` by node, 10 being near.

    `available` can be had there without swapping: what is free, and half of the page cache. The kernel estimates that for the whole host
    only (MemAvailable), and takes it that half of the cache is worth keeping at most.
    """

    number: int
    total: int
    free: int
    available: int
    cpus: frozenset[int] = frozenset()
    distances: Sequence[int] = ()


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
    available = free + (sizes.get(b"Active(file)", 0) + sizes.get(b"Inactive(file)", 0)) // 2
    cpus = parse_number_list(read_kernel_file(folder / "cpulist").decode("ascii", "replace")) or frozenset()
    words = read_kernel_file(folder / "distance").split()
    distances = [int(word) for word in words] if len(words) == count and all(word.isdigit() for word in words) else []
    return NumaNode(number, total, free, available, cpus, distances)


def cpus_to_nodes(nodes: Sequence[NumaNode]) -> dict[int, int]:
    """On which node each CPU is."""
    return {cpu: node.number for node in nodes for cpu in node.cpus}


def with_memory(nodes: Sequence[NumaNode]) -> list[NumaNode]:
    """Those that have any: expanders and accelerators bring nodes without memory, or without CPUs."""
    return [node for node in nodes if node.total > 0]


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
