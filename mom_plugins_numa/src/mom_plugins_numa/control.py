"""Setting where guests run and where their memory is, and putting it back, with every result read back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mom_core import (
    ControlSpec,
    CpuPinControl,
    Decision,
    GuestGone,
    Hypervisor,
    HypervisorError,
    LedgerEntry,
    NodeTuneControl,
    NotSupported,
    Outcome,
    Scope,
    Source,
    Status,
    Unit,
    Value,
)
from mom_plugins_numa.fields import BALANCING, MOVE_TO, NODESET, NOWHERE, PINS, nodeset_text, parse_pins, pins_text
from mom_plugins_numa.moving import Mover
from mom_plugins_numa.nodes import BALANCING as BALANCING_FILE
from mom_plugins_numa.nodes import read_balancing, read_nodes, with_memory
from mom_plugins_numa.numbers import format_list, parse_list, whole

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
    ControlSpec(
        BALANCING,
        Unit.COUNT,
        Scope.HOST,
        "the kernel's own NUMA balancing: 0 off, 1 on, 2 between tiers of memory, 3 both",
        BALANCING,
        choices=(0, 1, 2, 3),
    ),
)


@dataclass(frozen=True, slots=True)
class Knobs:
    """What is set, and on what.

    :param pids: the process ids of the guests that are processes of this host, by guest id
    :param mover: None where memory cannot be moved; `unmovable` says why
    """

    root: Path
    hypervisor: Hypervisor
    pids: Mapping[str, int]
    mover: Mover | None
    unmovable: str = ""

    def read(self, decision: Decision) -> Value:
        """What the decision's control stands at; None when it is unknown. Raises `HypervisorError`."""
        guest, hypervisor = decision.entity, self.hypervisor
        if decision.control == PINS and isinstance(hypervisor, CpuPinControl):
            pins = hypervisor.cpu_pins([guest]).get(guest.id)
            return pins_text(pins) if pins else None
        if decision.control == NODESET and isinstance(hypervisor, NodeTuneControl):
            tune = hypervisor.node_tunes([guest]).get(guest.id)
            return None if tune is None else nodeset_text(tune, self._nodes())
        if decision.control == MOVE_TO and self.mover is not None and guest.id in self.pids:
            move = self.mover.moves().get(guest.id)
            return NOWHERE if move is None else move.node
        return read_balancing(self.root) if decision.control == BALANCING else None

    def write(self, decision: Decision) -> None:
        """Set it. Raises `HypervisorError`: `NotSupported` where nothing was sent."""
        writers: Mapping[str, Callable[[Decision], None]] = {
            PINS: self._pin,
            NODESET: self._bind,
            MOVE_TO: self._move,
            BALANCING: self._balance,
        }
        writers[decision.control](decision)

    def _nodes(self) -> frozenset[int]:
        return frozenset(node.number for node in with_memory(read_nodes(self.root)))

    def _pin(self, decision: Decision) -> None:
        if not isinstance(self.hypervisor, CpuPinControl):
            raise NotSupported(f"{self.hypervisor.uri} cannot pin vCPUs")
        guest = decision.entity
        wanted = parse_pins(str(decision.value))
        if wanted is None:
            raise NotSupported(f"{decision.value!r:.60} is no list of CPUs, such as 0-3 or 0-1;2-3")
        now = self.hypervisor.cpu_pins([guest]).get(guest.id)
        if now is None:
            raise GuestGone("the guest is not there any more")
        if len(wanted) not in {1, len(now)}:
            raise NotSupported(f"there are CPUs for {len(wanted)} vCPUs, and the guest has {len(now)}")
        each = wanted * len(now) if len(wanted) == 1 else wanted
        for vcpu, (cpus, before) in enumerate(zip(each, now, strict=True)):
            if cpus != before:
                self.hypervisor.set_cpu_pin(guest, vcpu, cpus)

    def _bind(self, decision: Decision) -> None:
        if not isinstance(self.hypervisor, NodeTuneControl):
            raise NotSupported(f"{self.hypervisor.uri} cannot choose NUMA nodes")
        nodes = parse_list(str(decision.value))
        if not nodes:
            raise NotSupported(f"{decision.value!r:.60} is no list of nodes, such as 0 or 0-1")
        self.hypervisor.set_node_tune(decision.entity, nodes)

    def _move(self, decision: Decision) -> None:
        node, guest = whole(decision.value), decision.entity.id
        if self.mover is None:
            raise NotSupported(self.unmovable or "memory cannot be moved here")
        if guest not in self.pids:
            raise GuestGone("the guest has no process on this host")
        if node == NOWHERE:
            self.mover.cancel(guest)
            return
        if node is None or node not in self._nodes():
            raise NotSupported(f"{decision.value!r:.40} is no NUMA node with memory")
        reason = self.mover.begin(guest, self.pids[guest], node)
        if reason:
            raise GuestGone(reason)

    def _balance(self, decision: Decision) -> None:
        path = self.root / BALANCING_FILE
        try:
            # Not created when it is missing; cut where the tree is a folder of plain files. The kernel wants one write.
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"%d" % (whole(decision.value) or 0))
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise NotSupported("this kernel has no NUMA balancing") from None
        except OSError as error:
            raise HypervisorError(
                f"cannot write {path}: {error.strerror}", hint="it needs root, CAP_SYS_ADMIN, and a unit that lets it be written"
            ) from error


def apply(knobs: Knobs, decisions: Sequence[Decision]) -> list[Outcome]:
    """Set what was decided; an outcome for each."""
    # Where vCPUs run first: what they touch from then on is new memory on the right node, and need not be moved.
    order = [PINS, NODESET, MOVE_TO, BALANCING]
    return [_apply(knobs, decision) for decision in sorted(decisions, key=lambda decision: order.index(decision.control))]


def _apply(knobs: Knobs, decision: Decision) -> Outcome:
    before: Value = None
    try:
        before = knobs.read(decision)
        if before is not None and before == _canonical(decision):
            return Outcome(decision, before, before, Status.UNCHANGED)
        knobs.write(decision)
        after = knobs.read(decision)
    except GuestGone as error:
        return Outcome(decision, before, None, Status.GONE, str(error))
    except NotSupported as error:
        return Outcome(decision, before, before, Status.REFUSED, str(error))
    except HypervisorError as error:
        return Outcome(decision, before, _now(knobs, decision), Status.FAILED, str(error))
    if after is not None and after != _canonical(decision):
        return Outcome(decision, before, after, Status.FAILED, f"it stands at {after} instead")
    return Outcome(decision, before, after, Status.APPLIED)


def _now(knobs: Knobs, decision: Decision) -> Value:
    """What stands after something failed half-way, if that can be had."""
    try:
        return knobs.read(decision)
    except HypervisorError:
        return None


def _canonical(decision: Decision) -> Value:
    """The value as it is read back."""
    if decision.control == PINS and (pins := parse_pins(str(decision.value))) is not None:
        return pins_text(pins)
    if decision.control == NODESET and (nodes := parse_list(str(decision.value))):
        return format_list(nodes)
    return decision.value


def restore(knobs: Knobs, entries: Sequence[LedgerEntry], source: Source) -> list[Outcome]:
    """Put back what stood there before mom, unless somebody else has changed it since. Memory that was moved stays where it is."""
    there: Mapping[str, str] = {}
    lost = ""
    if any(entry.entity.scope is Scope.GUEST for entry in entries):
        try:
            there = {guest.id: guest.incarnation for guest in knobs.hypervisor.guests()}
        except HypervisorError as error:
            lost = str(error)
    outcomes = []
    for entry in entries:
        decision = Decision(entry.entity, entry.control, entry.before, "to stand as it did before mom", source)
        of_guest = entry.entity.scope is Scope.GUEST
        if of_guest and lost:
            outcomes.append(Outcome(decision, None, None, Status.FAILED, lost))
        elif of_guest and there.get(entry.entity.id) != entry.incarnation:
            outcomes.append(Outcome(decision, None, None, Status.GONE, "the guest is gone, or was started anew since"))
        else:
            outcomes.append(_put_back(knobs, entry, decision))
    return outcomes


def _put_back(knobs: Knobs, entry: LedgerEntry, decision: Decision) -> Outcome:
    if entry.control == MOVE_TO:
        # What another mom was moving has stopped with it, and a guest without a process here is not being moved.
        if knobs.mover is not None:
            knobs.mover.cancel(entry.entity.id)
        return Outcome(decision, entry.applied, entry.before, Status.APPLIED)
    try:
        now = knobs.read(decision)
    except HypervisorError as error:
        return Outcome(decision, None, None, Status.FAILED, str(error))
    if now is None:
        gone = entry.control == BALANCING
        return Outcome(decision, None, None, Status.GONE if gone else Status.FAILED, f"what {entry.control} stands at is unknown")
    if now == entry.before:
        return Outcome(decision, now, now, Status.UNCHANGED)
    if not entry.explains(now):
        return Outcome(decision, now, now, Status.LEFT_ALONE, f"somebody else has set it to {now}")
    outcome = _apply(knobs, decision)
    if outcome.status is Status.REFUSED:  # the ledger keeps it for another attempt
        return Outcome(decision, now, now, Status.FAILED, outcome.error)
    return outcome
