"""Where guests run and where their memory is: what can be set, how it is read, and how it is set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mom_core import Change, ControlSpec, Entity, GuestGone, Hypervisor, HypervisorError, NotSupported, Scope, Target, Unit, Value, as_whole
from mom_plugins_numa.fields import BALANCING, MOVE_TO, NODESET, NOWHERE, PINS, nodeset_text, parse_pins, pins_text
from mom_plugins_numa.moves import PacedMover
from mom_plugins_numa.nodes import BALANCING as BALANCING_FILE
from mom_plugins_numa.nodes import read_nodes, with_memory
from mom_plugins_numa.numbers import parse_list
from mom_toolkit import CpuPinControl, Knob, NodeTuneControl, file_knob


def balancing_knob(root: Path) -> Knob:
    """The kernel's own NUMA balancing, a file."""
    about = "the kernel's own NUMA balancing: 0 off, 1 on, 2 between tiers of memory, 3 both"
    return file_knob(BALANCING, Unit.COUNT, about, root / BALANCING_FILE, choices=(0, 1, 2, 3))


# No bounds here: a node that is moved to a bound is another one than was meant. Those that the host has not are refused.
CONTROLS = (
    ControlSpec(
        PINS,
        Unit.TEXT,
        Scope.GUEST,
        "let the vCPUs run on these CPUs of the host only: one list for all, such as 0-3, or one for each: 0-1;2-3",
        PINS,
    ),
    ControlSpec(
        NODESET,
        Unit.TEXT,
        Scope.GUEST,
        "take memory from these NUMA nodes only; libvirt can change that for guests in the modes strict and restrictive, and then"
        " moves all of the memory at once",
        NODESET,
    ),
    ControlSpec(
        MOVE_TO,
        Unit.COUNT,
        Scope.GUEST,
        "move the guest's memory to this NUMA node, once and in small steps; -1: move it no further",
        MOVE_TO,
    ),
    balancing_knob(Path("/")).control,
)


@dataclass(frozen=True, slots=True)
class BalancingKnobs:
    """What is set, and on what.

    :param pids: the process ids of the guests that are processes of this host, by guest id
    :param mover: None where memory cannot be moved; `unmovable` says why
    """

    root: Path
    hypervisor: Hypervisor
    pids: Mapping[str, int]
    mover: PacedMover | None
    unmovable: str = ""

    def read(self, targets: Sequence[Target]) -> Mapping[Target, Value | HypervisorError]:
        """What the controls stand at, all guests of one in one call."""
        readers: Mapping[str, Callable[[Sequence[Entity]], Mapping[str, Value | HypervisorError]]] = {
            PINS: self._pins,
            NODESET: self._nodesets,
            MOVE_TO: self._moves,
            BALANCING: self._balancing,
        }
        found: dict[Target, Value | HypervisorError] = {}
        for control in {target.control for target in targets}:
            entities = [target.entity for target in targets if target.control == control]
            try:
                values = readers[control](entities)
            except HypervisorError as error:
                values = {entity.id: error for entity in entities}
            found |= {Target(entity, control): values.get(entity.id) for entity in entities}
        return found

    def write(self, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Set them, where vCPUs run first: what they touch from then on is new memory on the right node, and need not be moved."""
        writers: Mapping[str, Callable[[Change], None]] = {
            PINS: self._pin,
            NODESET: self._bind,
            MOVE_TO: self._move,
            BALANCING: lambda change: balancing_knob(self.root).write(change.value),
        }
        order = list(writers)
        errors: dict[Target, HypervisorError] = {}
        for change in sorted(changes, key=lambda change: order.index(change.control)):
            try:
                writers[change.control](change)
            except HypervisorError as error:
                errors[change.target] = error
        return errors

    def _pins(self, guests: Sequence[Entity]) -> Mapping[str, Value]:
        if not isinstance(self.hypervisor, CpuPinControl):
            raise NotSupported(f"{self.hypervisor.uri} cannot pin vCPUs")
        return {guest: pins_text(pins) if pins else None for guest, pins in self.hypervisor.cpu_pins(guests).items()}

    def _nodesets(self, guests: Sequence[Entity]) -> Mapping[str, Value]:
        if not isinstance(self.hypervisor, NodeTuneControl):
            raise NotSupported(f"{self.hypervisor.uri} cannot choose NUMA nodes")
        nodes = self._nodes()
        return {guest: nodeset_text(tune, nodes) for guest, tune in self.hypervisor.node_tunes(guests).items()}

    def _moves(self, guests: Sequence[Entity]) -> Mapping[str, Value]:
        """Where memory is being moved to. What another mom was moving has stopped with it."""
        moves = {} if self.mover is None else self.mover.moves()
        return {guest.id: moves[guest.id].node if guest.id in moves else NOWHERE for guest in guests}

    def _balancing(self, hosts: Sequence[Entity]) -> Mapping[str, Value]:
        return {host.id: balancing_knob(self.root).read() for host in hosts}

    def _nodes(self) -> frozenset[int]:
        return frozenset(node.number for node in with_memory(read_nodes(self.root)))

    def _pin(self, change: Change) -> None:
        assert isinstance(self.hypervisor, CpuPinControl)  # noqa: S101  # it was read by this
        guest = change.entity
        wanted = parse_pins(str(change.value))
        if wanted is None:
            raise NotSupported(f"{change.value!r:.60} is no list of CPUs, such as 0-3 or 0-1;2-3")
        now = self.hypervisor.cpu_pins([guest]).get(guest.id)
        if now is None:
            raise GuestGone("the guest is not there any more")
        if len(wanted) not in {1, len(now)}:
            raise NotSupported(f"there are CPUs for {len(wanted)} vCPUs, and the guest has {len(now)}")
        each = wanted * len(now) if len(wanted) == 1 else wanted
        for vcpu, (cpus, before) in enumerate(zip(each, now, strict=True)):
            if cpus != before:
                self.hypervisor.set_cpu_pin(guest, vcpu, cpus)

    def _bind(self, change: Change) -> None:
        assert isinstance(self.hypervisor, NodeTuneControl)  # noqa: S101  # it was read by this
        nodes = parse_list(str(change.value))
        if not nodes:
            raise NotSupported(f"{change.value!r:.60} is no list of nodes, such as 0 or 0-1")
        self.hypervisor.set_node_tune(change.entity, nodes)

    def _move(self, change: Change) -> None:
        node, guest = as_whole(change.value), change.entity.id
        if node == NOWHERE:
            if self.mover is not None:
                self.mover.cancel(guest)
            return
        if self.mover is None:
            raise NotSupported(self.unmovable or "memory cannot be moved here")
        if guest not in self.pids:
            raise GuestGone("the guest has no process on this host")
        if node is None or node not in self._nodes():
            raise NotSupported(f"{change.value!r:.40} is no NUMA node with memory")
        reason = self.mover.begin(guest, self.pids[guest], node)
        if reason:
            raise GuestGone(reason)
