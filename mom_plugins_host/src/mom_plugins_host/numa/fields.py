"""The fields and controls of nodes and of guests on them."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from pathlib import Path

from mom_core import ControlSpec, FieldSpec, Scope, Unit
from mom_kvm import Knob, NodeTune, parse_number_list
from mom_plugins_host.numa.nodes import BALANCING
from mom_plugins_host.numa.numbers import format_list

PINS, NODESET = "vcpu_pins", "numa_nodeset"

_NODE_FILES = "/sys/devices/system/node/node*/"
_NUMA_MAPS = "/proc/PID/numa_maps of the guest's QEMU process"
_THREADS = "/proc/PID/task/TID/stat and status of the vCPUs' threads"


def balancing_knob(root: Path) -> Knob:
    """The kernel's own NUMA balancing, a file."""
    about = "the kernel's own NUMA balancing: 0 off, 1 on, 2 between tiers of memory, 3 both"
    return Knob.of_file("numa_balancing", Unit.COUNT, about, root / BALANCING, choices=(0, 1, 2, 3))


_BALANCING = balancing_knob(Path("/"))

_NODES_ABOUT = "for each NUMA node `node`, `total`, `free` and `available` (KiB), `cpus`, and `distances` to all nodes"
_AVAILABLE = "meminfo MemFree and half of Active(file), Inactive(file)"

_HOST = (
    ("numa_node_count", Unit.COUNT, "NUMA nodes with memory", "meminfo"),
    ("numa_nodes", Unit.LIST, _NODES_ABOUT, "meminfo, cpulist, distance"),
    ("numa_imbalance", Unit.PERCENT, "used share of the fullest NUMA node less that of the emptiest", "meminfo"),
    ("numa_available_least", Unit.KIB, "memory that can be had on the NUMA node that has the least of it", _AVAILABLE),
)

_CPUS_ABOUT = "for each NUMA node `node`, and the `share` (ratio) of the guest's CPU time that it has there, over a few samples"
_VCPUS_ABOUT = "for each vCPU `vcpu`, the `cpu` and `node` where it ran last, and the `cpus` and `nodes` where it may run"
_REMOTE_ABOUT = "share of the guest's memory accesses that go to another NUMA node, if all memory is used alike"
_PINNED_ABOUT = "the host's CPUs on which the guest's vCPUs may run, such as 0-3; where they differ, for each vCPU: 0-1;2-3"

_GUEST = (
    ("numa_memory", Unit.LIST, "for each NUMA node `node`, and `size` (KiB) of the guest's memory there", _NUMA_MAPS),
    ("numa_memory_age", Unit.SECONDS, "how long ago it was read where the guest's memory is", "mom's own clock"),
    ("numa_node", Unit.COUNT, "the NUMA node that holds most of the guest's memory", _NUMA_MAPS),
    ("numa_cpus", Unit.LIST, _CPUS_ABOUT, _THREADS),
    ("numa_vcpus", Unit.LIST, _VCPUS_ABOUT, _THREADS),
    ("numa_remote", Unit.RATIO, _REMOTE_ABOUT, "numa_memory and numa_cpus"),
    (PINS, Unit.TEXT, _PINNED_ABOUT, "the hypervisor's pins"),
    (NODESET, Unit.TEXT, "the NUMA nodes from which the guest's memory may come, such as 0-1", "the hypervisor"),
)

FIELDS = (
    *(FieldSpec(name, unit, Scope.HOST, about, _NODE_FILES + source) for name, unit, about, source in _HOST),
    _BALANCING.field,
    *(FieldSpec(name, unit, Scope.GUEST, about, source) for name, unit, about, source in _GUEST),
)

# No bounds here: a node that is moved to a bound is another one than was meant. Those that the host has not are refused.
_PINS_ABOUT = "let the vCPUs run on these CPUs of the host only: one list for all, such as 0-3, or one for each: 0-1;2-3"
_NODESET_ABOUT = (
    "take memory from these NUMA nodes only; libvirt does that in the modes strict and restrictive, and moves all memory at once"
)
CONTROLS = (
    ControlSpec(PINS, Unit.TEXT, Scope.GUEST, _PINS_ABOUT, PINS),
    ControlSpec(NODESET, Unit.TEXT, Scope.GUEST, _NODESET_ABOUT, NODESET),
    _BALANCING.control,
)


def pins_text(pins: Sequence[AbstractSet[int]]) -> str:
    """The CPUs of all vCPUs, as one list where they are all alike."""
    each = [_cpus_text(frozenset(cpus)) for cpus in pins]
    return each[0] if len(set(each)) == 1 else ";".join(each)


@lru_cache(maxsize=1024)  # a thousand guests have a handful of different ones, in each cycle
def _cpus_text(cpus: frozenset[int]) -> str:
    return format_list(cpus)


def parse_pins(text: str) -> list[frozenset[int]] | None:
    """The CPUs of each vCPU; one list is for all of them. None when it is malformed or a vCPU would have no CPU."""
    parts = [parse_number_list(part) for part in text.split(";")]
    pins = [part for part in parts if part]
    return pins if len(pins) == len(parts) else None


def nodeset_text(tune: NodeTune, every: AbstractSet[int]) -> str | None:
    """The nodes of a tune; no choice is all nodes with memory, and unknown where these are."""
    return format_list(tune.nodes or every) or None
