"""vCPU pins, guests' NUMA nodes and the kernel's balancing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from mom_core import (
    Change,
    Decision,
    Entity,
    Guest,
    GuestGone,
    Hypervisor,
    HypervisorError,
    LedgerEntry,
    NoChangeNeeded,
    NotSupported,
    Revision,
    Snapshot,
    Target,
    Value,
    as_number,
    as_whole,
    format_kib,
)
from mom_kvm import CpuPinControl, NodeTuneControl, Promises, capable, parse_number_list, read_together, set_each
from mom_plugins_host.numa.nodes import (
    NODESET,
    PINS,
    balancing_knob,
    format_list,
    memory_by_node,
    nodeset_text,
    parse_pins,
    pins_text,
    read_nodes,
    with_memory,
)

RESERVE_SHARE = 0.05
RESERVE_KIB = 512 << 10
"""Stays available on a node after mom binds guests to it."""

OLDEST_SECONDS = 180.0
"""Oldest valid sample: three turns of the sampler."""

_Nodes = Mapping[int, Mapping[str, Value]]


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], promises: Promises) -> Iterable[Revision]:
    """Yield revisions. Nodes need enough memory for the guest."""
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
            yield Revision(decision, replace(decision, value=text), "rewritten in the form that reads return")


def _pins(decision: Decision, nodes: _Nodes) -> tuple[str, str]:
    pins = parse_pins(str(decision.value))
    if pins is None:
        return f"{decision.value!r:.60} is not a list of CPUs, such as 0-3 or 0-1;2-3", ""
    online = frozenset().union(*(_cpus_of(item) for item in nodes.values()))
    if nodes and any(not cpus & online for cpus in pins):
        return f"none of these CPUs is online; online are {format_list(online)}", ""
    return "", pins_text(pins)


def _cpus_of(item: Mapping[str, Value]) -> frozenset[int]:
    cpus = item.get("cpus")
    return (parse_number_list(cpus) if isinstance(cpus, str) else None) or frozenset()


def _nodeset(decision: Decision, guest: Guest, nodes: _Nodes, used_kib: dict[int, float], promises: Promises) -> tuple[str, str]:
    """Return the reason to refuse these nodes, and their text."""
    # `used_kib` is updated: the KiB per node for guests bound in this cycle.
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
    """Write pins first, so that vCPUs allocate new memory on the right node."""

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
    changed = []
    try:
        for vcpu, (cpus, before) in enumerate(zip(each, now, strict=True)):
            if cpus != before:
                changed.append((vcpu, before))
                hypervisor.set_cpu_pin(guest, vcpu, cpus)
    except HypervisorError:
        # A mix of old and new pins looks like another process's change, which mom never restores.
        with suppress(HypervisorError):
            for vcpu, before in changed:
                hypervisor.set_cpu_pin(guest, vcpu, before)
        raise


def is_between(pinned: str, entry: LedgerEntry) -> bool:
    """Return whether pins mix the original value and mom's, as after a kill of mom."""
    now, ours = parse_pins(pinned), [pins for value in entry.ours if (pins := parse_pins(str(value)))]
    if entry.explains(pinned) or not now or not ours:
        return False
    count = max(map(len, [now, *ours]))  # one list stands for equal vCPUs
    current, *versions = [pins * count if len(pins) == 1 else pins for pins in [now, *ours]]
    return all(any(pins[vcpu : vcpu + 1] == [cpus] for pins in versions) for vcpu, cpus in enumerate(current))


def _bind(hypervisor: Hypervisor, change: Change) -> None:
    assert isinstance(hypervisor, NodeTuneControl)  # noqa: S101  # `read` has used it
    nodes = parse_number_list(str(change.value))
    if not nodes:
        raise NotSupported(f"{change.value!r:.60} is not a list of nodes, such as 0 or 0-1")
    hypervisor.set_node_tune(change.entity, nodes)
