"""The fields, and what is made of a look at a guest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache

from mom_core import FieldSpec, Scope, Unit, Value
from mom_plugins_numa.lookout import MemoryLook
from mom_plugins_numa.moves import PageMove, Stage
from mom_plugins_numa.nodes import COUNTERS, MIGRATIONS
from mom_plugins_numa.numbers import format_list, parse_list, remote_share
from mom_toolkit import NodeTune

PINS, NODESET, MOVE_TO, BALANCING = "vcpu_pins", "numa_nodeset", "numa_move_to", "numa_balancing"

NOWHERE = -1
"""The value of `numa_move_to` for a guest that is not to be moved."""

_NODE_FILES = "/sys/devices/system/node/node*/"

FIELDS = (
    FieldSpec("numa_node_count", Unit.COUNT, Scope.HOST, "NUMA nodes with memory", _NODE_FILES + "meminfo"),
    FieldSpec(
        "numa_nodes",
        Unit.LIST,
        Scope.HOST,
        "for each NUMA node `node`, `total`, `free` and `available` (KiB), `cpus`, and `distances` to all nodes",
        _NODE_FILES + "meminfo, cpulist, distance",
    ),
    FieldSpec(
        "numa_imbalance", Unit.PERCENT, Scope.HOST, "used share of the fullest NUMA node less that of the emptiest", _NODE_FILES + "meminfo"
    ),
    FieldSpec(
        "numa_available_least",
        Unit.KIB,
        Scope.HOST,
        "memory that can be had on the NUMA node that has the least of it",
        _NODE_FILES + "meminfo MemFree and half of Active(file), Inactive(file)",
    ),
    *(
        FieldSpec(COUNTERS[counter], Unit.PAGES_PER_SECOND, Scope.HOST, f"pages {text}", _NODE_FILES + f"numastat {counter}")
        for counter, text in (
            ("numa_hit", "that came from the node that was meant"),
            ("numa_miss", "that came from a node because another one, which was meant, had none"),
            ("numa_foreign", "that were meant to come from a node and came from another one"),
            ("other_node", "that went to a program that ran on another node"),
        )
    ),
    FieldSpec(
        MIGRATIONS["numa_pages_migrated"],
        Unit.PAGES_PER_SECOND,
        Scope.HOST,
        "pages that the kernel's own NUMA balancing has moved",
        "/proc/vmstat numa_pages_migrated",
    ),
    FieldSpec(
        MIGRATIONS["numa_hint_faults"],
        Unit.PER_SECOND,
        Scope.HOST,
        "faults that the kernel's own NUMA balancing provokes, to see who uses what",
        "/proc/vmstat numa_hint_faults",
    ),
    FieldSpec(
        BALANCING,
        Unit.COUNT,
        Scope.HOST,
        "the kernel's own NUMA balancing: 0 off, 1 on, 2 between tiers of memory, 3 both",
        "/proc/sys/kernel/numa_balancing",
    ),
    FieldSpec("numa_look_usage", Unit.PERCENT, Scope.HOST, "share of one CPU that looking at guests' memory took", "mom's own clock"),
    FieldSpec(
        "numa_memory",
        Unit.LIST,
        Scope.GUEST,
        "for each NUMA node `node`, and `size` (KiB) of the guest's memory there",
        "/proc/PID/numa_maps of the guest's QEMU process",
    ),
    FieldSpec("numa_memory_age", Unit.SECONDS, Scope.GUEST, "how long ago it was looked where the guest's memory is", "mom's own clock"),
    FieldSpec("numa_node", Unit.COUNT, Scope.GUEST, "the NUMA node that holds most of the guest's memory", "/proc/PID/numa_maps"),
    FieldSpec(
        "numa_cpus",
        Unit.LIST,
        Scope.GUEST,
        "for each NUMA node `node`, and the `share` (ratio) of the guest's CPU time that it has there, over a few looks",
        "/proc/PID/task/TID/stat of the vCPUs' threads",
    ),
    FieldSpec(
        "numa_vcpus",
        Unit.LIST,
        Scope.GUEST,
        "for each vCPU `vcpu`, the `cpu` and `node` where it ran last, and the `cpus` and `nodes` where it may run",
        "/proc/PID/task/TID/stat and status of the vCPUs' threads",
    ),
    FieldSpec(
        "numa_vcpu_usage",
        Unit.PERCENT,
        Scope.GUEST,
        "CPU time of the guest's vCPUs, 100 being one host CPU",
        "/proc/PID/task/TID/stat of the vCPUs' threads",
    ),
    FieldSpec(
        "numa_remote",
        Unit.RATIO,
        Scope.GUEST,
        "share of the guest's memory accesses that go to another NUMA node, if all memory is used alike",
        "numa_memory and numa_cpus",
    ),
    FieldSpec(
        PINS,
        Unit.TEXT,
        Scope.GUEST,
        "the host's CPUs on which the guest's vCPUs may run, such as 0-3; where they differ, for each vCPU: 0-1;2-3",
        "the hypervisor's pins",
    ),
    FieldSpec(NODESET, Unit.TEXT, Scope.GUEST, "the NUMA nodes from which the guest's memory may come, such as 0-1", "the hypervisor"),
    FieldSpec(MOVE_TO, Unit.COUNT, Scope.GUEST, "the NUMA node to which the guest's memory is to be moved; -1: to none", "mom's own"),
    FieldSpec("numa_move", Unit.TEXT, Scope.GUEST, "how far that is: waiting, moving, done, or stopped with the reason", "mom's own"),
    FieldSpec("numa_moved", Unit.KIB, Scope.GUEST, "how much of the guest's memory was moved there", "mom's own"),
    FieldSpec("numa_move_kept", Unit.PAGES, Scope.GUEST, "pages that could not be moved: held in place, or shared", "move_pages(2)"),
)


def look_fields(look: MemoryLook, nodes_of: Mapping[int, int]) -> dict[str, Value]:
    """What a look found, without its age."""
    fields: dict[str, Value] = {}
    if look.vcpus:
        fields["numa_vcpus"] = [
            {
                "vcpu": vcpu.number,
                "cpu": vcpu.cpu,
                "node": nodes_of.get(vcpu.cpu),
                "cpus": format_list(vcpu.allowed),
                "nodes": format_list({nodes_of[cpu] for cpu in vcpu.allowed if cpu in nodes_of}),
            }
            for vcpu in look.vcpus
        ]
    if look.cpus:
        fields["numa_cpus"] = [{"node": node, "share": round(share, 4)} for node, share in sorted(look.cpus.items())]
    if look.usage is not None:
        fields["numa_vcpu_usage"] = round(look.usage, 1)
    if look.memory:
        fields["numa_memory"] = [{"node": node, "size": size} for node, size in sorted(look.memory.items())]
        fields["numa_node"] = max(look.memory, key=lambda node: (look.memory[node], -node))
        remote = remote_share(look.memory, look.cpus)
        if remote is not None:
            fields["numa_remote"] = round(remote, 4)
    return fields


def move_fields(move: PageMove | None) -> dict[str, Value]:
    """How far moving a guest is."""
    if move is None:
        return {MOVE_TO: NOWHERE}
    stage = f"{move.stage}: {move.reason}" if move.stage is Stage.STOPPED else str(move.stage)
    return {MOVE_TO: move.node, "numa_move": stage, "numa_moved": move.moved_kib, "numa_move_kept": move.kept_pages}


def pins_text(pins: Sequence[AbstractSet[int]]) -> str:
    """The CPUs of all vCPUs, as one list where they are all alike."""
    if pins and all(cpus == pins[0] for cpus in pins):
        return _cpus_text(frozenset(pins[0]))
    return ";".join(_cpus_text(frozenset(cpus)) for cpus in pins)


@lru_cache(maxsize=1024)  # a thousand guests have a handful of different ones, in each cycle
def _cpus_text(cpus: frozenset[int]) -> str:
    return format_list(cpus)


def parse_pins(text: str) -> list[frozenset[int]] | None:
    """The CPUs of each vCPU; one list is for all of them. None when it is malformed or a vCPU would have no CPU."""
    parts = [parse_list(part) for part in text.split(";")]
    found = [part for part in parts if part]
    return found if len(found) == len(parts) else None


def nodeset_text(tune: NodeTune, every: AbstractSet[int]) -> str:
    """The nodes of a tune; no choice is all nodes with memory."""
    return format_list(tune.nodes or every)
