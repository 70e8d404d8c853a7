"""Review of all plugins' decisions about NUMA: written as they are read back, and never into memory that is not there. Pure.

Where guests run and where their memory may come from: how it is read, and how it is set."""

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
"""So much stays available on a node when guests are bound to it: 5 % of it and 512 MiB at least, far above the watermarks at which the
kernel reclaims."""

OLDEST_SECONDS = 180.0
"""How old a sample may be that says what of a guest's memory is on a node already: three turns of the sampler where it keeps up. With many
guests a sample may be most of an hour old, and the memory elsewhere."""

_Nodes = Mapping[int, Mapping[str, Value]]


def reviewed(snapshot: Snapshot, decisions: Sequence[Decision], promises: Promises) -> Iterable[Revision]:
    """The revisions of these decisions; those on other plugins' controls are left alone."""
    nodes = {node: item for item in (snapshot.host.items("numa_nodes") or ()) if (node := as_whole(item.get("node"))) is not None}
    taken = dict.fromkeys(nodes, 0.0)
    for decision in decisions:
        guest = snapshot.guests.get(decision.entity.id)
        if guest is None or decision.control not in {PINS, NODESET}:
            continue
        refusal, text = _pins(decision, nodes) if decision.control == PINS else _nodeset(decision, guest, nodes, taken, promises)
        if refusal:
            yield Revision(decision, None, refusal)
        elif text != decision.value:
            yield Revision(decision, replace(decision, value=text), "written as it is read back")


def _pins(decision: Decision, nodes: _Nodes) -> tuple[str, str]:
    """Why these pins are refused, and how they are written."""
    wanted = parse_pins(str(decision.value))
    if wanted is None:
        return f"{decision.value!r:.60} is no list of CPUs, such as 0-3 or 0-1;2-3", ""
    online = frozenset().union(*(_cpus_of(item) for item in nodes.values()))
    if nodes and any(not cpus & online for cpus in wanted):
        return f"none of these CPUs is online; there are {format_list(online)}", ""
    return "", pins_text(wanted)


def _cpus_of(item: Mapping[str, Value]) -> frozenset[int]:
    cpus = item.get("cpus")
    return (parse_number_list(cpus) if isinstance(cpus, str) else None) or frozenset()


def _nodeset(decision: Decision, guest: Guest, nodes: _Nodes, taken: dict[int, float], promises: Promises) -> tuple[str, str]:
    """Why these nodes are refused, and how they are written.

    :param taken: KiB that guests bound before this one in the cycle take on each node, which follows
    """
    wanted = parse_number_list(str(decision.value))
    if not wanted:
        return f"{decision.value!r:.60} is no list of nodes, such as 0 or 0-1", ""
    before = parse_number_list(str(guest.fields.get(NODESET) or ""))
    widens = bool(before) and before is not None and before <= wanted  # only what narrows the choice can leave the guest short
    return "" if widens else _too_small(wanted, guest, nodes, taken, promises), format_list(wanted)


def _too_small(wanted: frozenset[int], guest: Guest, nodes: _Nodes, taken: dict[int, float], promises: Promises) -> str:
    """Why these nodes cannot take what the guest has, and what it was promised; empty when they can."""
    strange = wanted - nodes.keys()
    if strange:
        return f"there is no NUMA node {format_list(strange)}" if nodes else "the host's NUMA nodes are not known"
    headrooms = [max(0.0, headroom - taken[node]) for node in wanted if (headroom := _headroom(nodes[node])) is not None]
    if len(headrooms) < len(wanted):
        return "what the nodes have available is not known"
    seen, age = memory_by_node(guest), guest.number("numa_memory_age")
    held = sum(seen.get(node, 0.0) for node in wanted) if age is not None and age <= OLDEST_SECONDS else 0.0
    sizes = [size for size in (guest.number("balloon_cur"), promises.guaranteed_kib(guest)) if size]
    if not sizes and not seen:
        return "how much memory the guest needs is not known"
    need = max([*sizes, sum(seen.values())])
    missing = need - held - sum(headrooms)
    if missing <= 0:
        for node in wanted:  # it may have all of it from any of them; whom this refuses too much is bound in a later cycle
            taken[node] += max(0.0, need - held)
        return ""
    return f"the guest needs {format_kib(need)}: {format_kib(missing)} more than node {format_list(wanted)} can give it"


def _headroom(item: Mapping[str, Value]) -> float | None:
    """KiB that a node can still take."""
    total, available = as_number(item.get("total")), as_number(item.get("available"))
    return None if total is None or available is None else max(0.0, available - max(RESERVE_SHARE * total, RESERVE_KIB))


def read(root: Path, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
    """Values of the controls of guests, and of the host whose files are below `root`, all guests of one in one call."""
    controls = {one.control for one in targets}
    return read_together(targets, [((control,), partial(_stand, root, hypervisor, control)) for control in controls])


def _stand(root: Path, hypervisor: Hypervisor, control: str, entities: Sequence[Entity]) -> Mapping[str, Mapping[str, Value]]:
    if control == PINS:
        pinned = capable(hypervisor, CpuPinControl, "pin vCPUs").cpu_pins(entities)
        return {guest: {control: pins_text(pins) if pins else None} for guest, pins in pinned.items()}
    if control == NODESET:
        tunes = capable(hypervisor, NodeTuneControl, "choose NUMA nodes").node_tunes(entities)
        nodes = frozenset(node.number for node in with_memory(read_nodes(root)))
        return {guest: {control: nodeset_text(tune, nodes)} for guest, tune in tunes.items()}
    return {host.id: {control: balancing_knob(root).read()} for host in entities}


def write(root: Path, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
    """Set them, where vCPUs run first: what they touch from then on is new memory on the right node, and need not be moved."""

    def set_one(change: Change) -> None:
        if change.control == PINS:
            _pin(hypervisor, change)
        elif change.control == NODESET:
            _bind(hypervisor, change)
        else:
            balancing_knob(root).write(change.value)

    return set_each(sorted(changes, key=lambda change: change.control != PINS), set_one)


def _pin(hypervisor: Hypervisor, change: Change) -> None:
    assert isinstance(hypervisor, CpuPinControl)  # noqa: S101  # it was read by this
    guest = change.entity
    wanted: list[AbstractSet[int]] = list(parse_pins(str(change.value)) or [])
    now = hypervisor.cpu_pins([guest]).get(guest.id)
    if now is None:
        raise GuestGone("the guest is not there any more")
    if change.back and len(wanted) > 1:  # vCPUs that came later have nothing to be put back, and those that left neither
        wanted = [*wanted, *now[len(wanted) :]][: len(now)]
        if wanted == list(now):
            raise NoChangeNeeded("the vCPUs that it has now are pinned as they were")
    if len(wanted) not in {1, len(now)}:
        raise NotSupported(f"there are CPUs for {len(wanted)} vCPUs, and the guest has {len(now)}")
    each = wanted * len(now) if len(wanted) == 1 else wanted
    done = []
    try:
        for vcpu, (cpus, before) in enumerate(zip(each, now, strict=True)):
            if cpus != before:
                done.append((vcpu, before))
                hypervisor.set_cpu_pin(guest, vcpu, cpus)
    except HypervisorError:
        # Some of them set are neither what stood nor what was decided: that would be taken for another process's, and never put back.
        with suppress(HypervisorError):
            for vcpu, before in done:
                hypervisor.set_cpu_pin(guest, vcpu, before)
        raise


def is_between(pinned: str, entry: LedgerEntry) -> bool:
    """True if these pins are neither what stood nor what mom has set, and those of each vCPU are one of the two: vCPUs are pinned one after
    the other, and a mom that is cut off leaves some of them pinned."""
    now, ours = parse_pins(pinned), [pins for value in entry.ours if (pins := parse_pins(str(value)))]
    if entry.explains(pinned) or not now or not ours:
        return False
    count = max(map(len, [now, *ours]))  # where all vCPUs are alike, there is one list for them
    each, *others = [pins * count if len(pins) == 1 else pins for pins in [now, *ours]]
    return all(any(pins[vcpu : vcpu + 1] == [cpus] for pins in others) for vcpu, cpus in enumerate(each))


def _bind(hypervisor: Hypervisor, change: Change) -> None:
    assert isinstance(hypervisor, NodeTuneControl)  # noqa: S101  # it was read by this
    nodes = parse_number_list(str(change.value))
    if not nodes:
        raise NotSupported(f"{change.value!r:.60} is no list of nodes, such as 0 or 0-1")
    hypervisor.set_node_tune(change.entity, nodes)
