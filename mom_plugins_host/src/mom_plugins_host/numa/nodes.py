"""NUMA nodes of the host, and guests' pins and nodes: fields, review, reading and writing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Entity,
    FieldSpec,
    Guest,
    GuestGone,
    Hypervisor,
    HypervisorError,
    LedgerEntry,
    NoChangeNeeded,
    NotSupported,
    Revision,
    Scope,
    Snapshot,
    Target,
    Unit,
    Value,
    as_number,
    as_whole,
    format_kib,
)
from mom_kvm import Knob, NodeTune, Promises, capable, parse_number_list, read_kernel_file, set_each
from mom_plugins_host.capabilities import CpuPinControl, NodeTuneControl, read_together


def format_list(numbers: AbstractSet[int]) -> str:
    """Format numbers as the kernel does: `0-3,8`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def memory_by_node(guest: Guest) -> dict[int, float]:
    """Return the guest's KiB on each node; empty if unknown."""
    sizes: dict[int, float] = {}
    for item in guest.items("numa_memory") or ():
        node, amount = as_whole(item.get("node")), as_number(item.get("size"))
        if node is None or amount is None:
            return {}
        sizes[node] = amount
    return sizes


def shares(amounts: Mapping[int, float]) -> dict[int, float]:
    """Return each amount as a fraction of the sum; an empty mapping if the sum is 0."""
    total = sum(amounts.values())
    return {node: amount / total for node, amount in amounts.items()} if total > 0 else {}


def remote_share(memory: Mapping[int, float], cpus: Mapping[int, float]) -> float | None:
    """Return the fraction of memory accesses that go to other nodes, if all memory is used equally; None without memory or CPU time.

    :param memory: amounts keyed by node
    :param cpus: CPU time keyed by node
    """
    held, spent = shares(memory), shares(cpus)
    if not held or not spent:
        return None
    near = sum(share * spent.get(node, 0.0) for node, share in held.items())
    return min(1.0, max(0.0, 1.0 - near))


BALANCING = "proc/sys/kernel/numa_balancing"

_FOLDER = "sys/devices/system/node"
_MEMORY = re.compile(rb"^Node +[0-9]+ +([A-Za-z()_]+): +([0-9]{1,15})", re.MULTILINE)
_NODE = re.compile(r"node([0-9]{1,4})")


@dataclass(frozen=True, slots=True)
class NumaNode:
    """NUMA node. Sizes are in KiB. `distances` lists the distance to each node, in order; 10 is local.

    `available` is free memory and half of the page cache.
    """

    number: int
    total: int
    free: int
    available: int
    cpus: frozenset[int] = frozenset()
    distances: Sequence[int] = ()


def read_nodes(root: Path) -> list[NumaNode]:
    """Return the nodes that are online and readable; an empty list without NUMA."""
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
    """Return the node of each CPU."""
    return {cpu: node.number for node in nodes for cpu in node.cpus}


def with_memory(nodes: Sequence[NumaNode]) -> list[NumaNode]:
    """Return the nodes that have memory."""
    return [node for node in nodes if node.total > 0]


def node_fields(nodes: Sequence[NumaNode]) -> dict[str, Value]:
    """Return the host's fields; empty if no node has memory."""
    memory_nodes = with_memory(nodes)
    if not memory_nodes:
        return {}
    used = [100 * (1 - node.free / node.total) for node in memory_nodes]
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
        "numa_node_count": len(memory_nodes),
        "numa_nodes": listed,
        "numa_imbalance": round(max(used) - min(used), 2),
        "numa_available_least": min(node.available for node in memory_nodes),
    }


PINS, NODESET = "vcpu_pins", "numa_nodeset"

_NODE_FILES = "/sys/devices/system/node/node*/"
_NUMA_MAPS = "/proc/PID/numa_maps of the guest's QEMU process"
_THREADS = "/proc/PID/task/TID/stat and status of the vCPUs' threads"


def balancing_knob(root: Path) -> Knob:
    """Return the control of the kernel's NUMA balancing."""
    about = "the kernel's own NUMA balancing: 0 off, 1 on, 2 between tiers of memory, 3 both"
    return Knob.of_file("numa_balancing", Unit.COUNT, about, root / BALANCING, choices=(0, 1, 2, 3))


_BALANCING = balancing_knob(Path("/"))

_NODES_ABOUT = "one entry for each NUMA node: `node`, `total`, `free` and `available` (KiB), `cpus`, and `distances` to all nodes"
_AVAILABLE = "meminfo MemFree + (Active(file) + Inactive(file)) / 2"

_HOST = (
    ("numa_node_count", Unit.COUNT, "NUMA nodes with memory", "meminfo"),
    ("numa_nodes", Unit.LIST, _NODES_ABOUT, "meminfo, cpulist, distance"),
    ("numa_imbalance", Unit.PERCENT, "difference between the used shares of the fullest and the emptiest NUMA node", "meminfo"),
    ("numa_available_least", Unit.KIB, "available memory of the NUMA node with the least available memory", _AVAILABLE),
)

_CPUS_ABOUT = "one entry for each NUMA node: `node`, and the `share` (0 to 1) of the guest's CPU time spent there, over a few samples"
_REMOTE_ABOUT = "share of the guest's memory accesses that go to another NUMA node, assuming equal use of all its memory"
_PINNED_ABOUT = "the host's CPUs on which the guest's vCPUs may run, such as 0-3; where they differ, for each vCPU: 0-1;2-3"

_GUEST = (
    ("numa_memory", Unit.LIST, "one entry for each NUMA node: `node`, and `size` (KiB) of the guest's memory there", _NUMA_MAPS),
    ("numa_memory_age", Unit.SECONDS, "age of numa_memory", "mom's own clock"),
    ("numa_node", Unit.COUNT, "NUMA node with most of the guest's memory", _NUMA_MAPS),
    ("numa_cpus", Unit.LIST, _CPUS_ABOUT, _THREADS),
    ("numa_remote", Unit.RATIO, _REMOTE_ABOUT, "numa_memory and numa_cpus"),
    (PINS, Unit.TEXT, _PINNED_ABOUT, "the hypervisor's pins"),
    (NODESET, Unit.TEXT, "the NUMA nodes from which the guest's memory may come, such as 0-1", "the hypervisor"),
)

FIELDS = (
    *(FieldSpec(name, unit, Scope.HOST, about, _NODE_FILES + source) for name, unit, about, source in _HOST),
    _BALANCING.field,
    *(FieldSpec(name, unit, Scope.GUEST, about, source) for name, unit, about, source in _GUEST),
)

# The controls have no bounds: mom refuses missing nodes, because a bound would choose another node.
_PINS_ABOUT = "let the vCPUs run on these CPUs of the host only: one list for all, such as 0-3, or one for each: 0-1;2-3"
_NODESET_ABOUT = (
    "place the guest's memory on these NUMA nodes only;"
    " libvirt supports this in the modes strict and restrictive, and moves all memory immediately"
)
CONTROLS = (
    ControlSpec(PINS, Unit.TEXT, Scope.GUEST, _PINS_ABOUT, PINS),
    ControlSpec(NODESET, Unit.TEXT, Scope.GUEST, _NODESET_ABOUT, NODESET),
    _BALANCING.control,
)


def pins_text(pins: Sequence[AbstractSet[int]]) -> str:
    """Format the host CPUs of all vCPUs: a single list if all vCPUs have the same."""
    each = [_cpus_text(frozenset(cpus)) for cpus in pins]
    return each[0] if len(set(each)) == 1 else ";".join(each)


@lru_cache(maxsize=1024)  # a thousand guests have few different sets
def _cpus_text(cpus: frozenset[int]) -> str:
    return format_list(cpus)


def parse_pins(text: str) -> list[frozenset[int]] | None:
    """Return the CPUs of each vCPU, or one set for all; None if malformed or a set is empty."""
    parts = [parse_number_list(part) for part in text.split(";")]
    pins = [part for part in parts if part]
    return pins if len(pins) == len(parts) else None


def nodeset_text(tune: NodeTune, every: AbstractSet[int]) -> str | None:
    """Format the nodes that a guest may use: all of `every` if the tune selects none; None if unknown."""
    return format_list(tune.nodes or every) or None


RESERVE_SHARE = 0.05
RESERVE_KIB = 512 << 10
"""Memory that stays available on a node after mom has bound guests to it: `RESERVE_SHARE` of the node, or this size if larger."""

OLDEST_SECONDS = 180.0
"""Maximum age of a sample: three default intervals of the sampler."""

_Nodes = Mapping[int, Mapping[str, Value]]


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], promises: Promises) -> Iterable[Revision]:
    """Yield revisions of decisions on pins and nodes. Refuse nodes without enough memory for the guest."""
    nodes = {node: item for item in (snapshot.host.items("numa_nodes") or ()) if (node := as_whole(item.get("node"))) is not None}
    used_kib = dict.fromkeys(nodes, 0.0)
    for decision in decisions:
        guest = snapshot.guests.get(decision.entity.id)
        if guest is None or decision.control not in {PINS, NODESET}:
            continue
        refusal, text = _pins(decision, nodes) if decision.control == PINS else _nodeset(decision, guest, nodes, used_kib, promises)
        if refusal:
            yield Revision(decision, None, refusal)
        elif text != decision.value:
            yield Revision(decision, replace(decision, value=text), "rewritten in the format that mom reads")


def _pins(decision: Decision, nodes: _Nodes) -> tuple[str, str]:
    pins = parse_pins(str(decision.value))
    if pins is None:
        return f"{decision.value!r:.60} is not a list of CPUs, such as 0-3 or 0-1;2-3", ""
    online = frozenset().union(*(_cpus_of(item) for item in nodes.values()))
    if nodes and any(not cpus & online for cpus in pins):
        return f"a list contains no online CPU; online are {format_list(online)}", ""
    return "", pins_text(pins)


def _cpus_of(item: Mapping[str, Value]) -> frozenset[int]:
    cpus = item.get("cpus")
    return (parse_number_list(cpus) if isinstance(cpus, str) else None) or frozenset()


def _nodeset(decision: Decision, guest: Guest, nodes: _Nodes, used_kib: dict[int, float], promises: Promises) -> tuple[str, str]:
    """Return why the nodes are refused (empty: accepted), and the nodes as text. Add the guest's need to `used_kib`."""
    nodeset = parse_number_list(str(decision.value))
    if not nodeset:
        return f"{decision.value!r:.60} is not a list of nodes, such as 0 or 0-1", ""
    before = parse_number_list(str(guest.fields.get(NODESET) or ""))
    widens = bool(before) and before is not None and before <= nodeset  # more nodes cannot leave the guest short
    return "" if widens else _too_small(nodeset, guest, nodes, used_kib, promises), format_list(nodeset)


def _too_small(nodeset: frozenset[int], guest: Guest, nodes: _Nodes, used_kib: dict[int, float], promises: Promises) -> str:
    unknown = nodeset - nodes.keys()
    if unknown:
        return f"there is no NUMA node {format_list(unknown)}" if nodes else "the host's NUMA nodes are unknown"
    headrooms = [max(0.0, headroom - used_kib[node]) for node in nodeset if (headroom := _headroom(nodes[node])) is not None]
    if len(headrooms) < len(nodeset):
        return "the available memory of the nodes is unknown"
    placed, age = memory_by_node(guest), guest.number("numa_memory_age")
    held = sum(placed.get(node, 0.0) for node in nodeset) if age is not None and age <= OLDEST_SECONDS else 0.0
    sizes = [size for size in (guest.number("balloon_cur"), promises.guaranteed_kib(guest)) if size]
    if not sizes and not placed:
        return "the guest's need of memory is unknown"
    need = max([*sizes, sum(placed.values())])
    missing = need - held - sum(headrooms)
    if missing <= 0:
        for node in nodeset:  # any node may provide all of it; a later cycle binds guests that were refused unnecessarily
            used_kib[node] += max(0.0, need - held)
        return ""
    return f"the guest needs {format_kib(need)}: {format_kib(missing)} more than is available on node {format_list(nodeset)}"


def _headroom(item: Mapping[str, Value]) -> float | None:
    total, available = as_number(item.get("total")), as_number(item.get("available"))
    return None if total is None or available is None else max(0.0, available - max(RESERVE_SHARE * total, RESERVE_KIB))


def read(root: Path, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
    """Return the values of the controls."""
    controls = {target.control for target in targets}
    return read_together(targets, [((control,), partial(_values_of, root, hypervisor, control)) for control in controls])


def _values_of(root: Path, hypervisor: Hypervisor, control: str, entities: Sequence[Entity]) -> Mapping[str, Mapping[str, Value]]:
    if control == PINS:
        pinned = capable(hypervisor, CpuPinControl, "pin vCPUs").cpu_pins(entities)
        return {guest: {control: pins_text(pins) if pins else None} for guest, pins in pinned.items()}
    if control == NODESET:
        tunes = capable(hypervisor, NodeTuneControl, "choose NUMA nodes").node_tunes(entities)
        nodes = frozenset(node.number for node in with_memory(read_nodes(root)))
        return {guest: {control: nodeset_text(tune, nodes)} for guest, tune in tunes.items()}
    return {host.id: {control: balancing_knob(root).read()} for host in entities}


def write(root: Path, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
    """Write the controls, pins first, so that vCPUs allocate new memory on the right node."""

    def apply(change: Change) -> None:
        if change.control == PINS:
            _pin(hypervisor, change)
        elif change.control == NODESET:
            _bind(hypervisor, change)
        else:
            balancing_knob(root).write(change.value)

    return set_each(sorted(changes, key=lambda change: change.control != PINS), apply)


def _pin(hypervisor: Hypervisor, change: Change) -> None:
    assert isinstance(hypervisor, CpuPinControl)  # noqa: S101  # `read` has used it
    guest = change.entity
    pins: list[AbstractSet[int]] = list(parse_pins(str(change.value)) or [])
    now = hypervisor.cpu_pins([guest]).get(guest.id)
    if now is None:
        raise GuestGone("the guest no longer exists")
    if change.back and len(pins) > 1:  # restore only vCPUs that the guest had then and has now
        pins = [*pins, *now[len(pins) :]][: len(now)]
        if pins == list(now):
            raise NoChangeNeeded("its present vCPUs already have their original pins")
    if len(pins) not in {1, len(now)}:
        raise NotSupported(f"the value lists CPUs for {len(pins)} vCPUs, but the guest has {len(now)}")
    each = pins * len(now) if len(pins) == 1 else pins
    for vcpu, (cpus, before) in enumerate(zip(each, now, strict=True)):
        if cpus != before:
            hypervisor.set_cpu_pin(guest, vcpu, cpus)


def is_between(pinned: str, entry: LedgerEntry) -> bool:
    """Return whether `pinned` mixes original pins and mom's, because mom could not set all of them."""
    now, ours = parse_pins(pinned), [pins for value in entry.ours if (pins := parse_pins(str(value)))]
    if entry.explains(pinned) or not now or not ours:
        return False
    count = max(map(len, [now, *ours]))  # a single list applies to all vCPUs
    current, *versions = [pins * count if len(pins) == 1 else pins for pins in [now, *ours]]
    return all(any(pins[vcpu : vcpu + 1] == [cpus] for pins in versions) for vcpu, cpus in enumerate(current))


def _bind(hypervisor: Hypervisor, change: Change) -> None:
    assert isinstance(hypervisor, NodeTuneControl)  # noqa: S101  # `read` has used it
    nodes = parse_number_list(str(change.value))
    if not nodes:
        raise NotSupported(f"{change.value!r:.60} is not a list of nodes, such as 0 or 0-1")
    hypervisor.set_node_tune(change.entity, nodes)
