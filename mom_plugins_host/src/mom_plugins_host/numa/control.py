"""Where guests run and where their memory may come from: how it is read, and how it is set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from pathlib import Path

from mom_core import Change, Entity, GuestGone, Hypervisor, HypervisorError, LedgerEntry, NoChangeNeeded, NotSupported, Target, Value
from mom_kvm import CpuPinControl, NodeTuneControl, capable, parse_number_list, read_together, set_each
from mom_plugins_host.numa.fields import NODESET, PINS, balancing_knob, nodeset_text, parse_pins, pins_text
from mom_plugins_host.numa.nodes import read_nodes, with_memory


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
