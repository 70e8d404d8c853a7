"""Plugin `numa`: finds the nodes that guests use, pins vCPUs and binds memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mom_core import (
    Change,
    ControlSpec,
    Decision,
    Declaration,
    Duration,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    PluginContext,
    PluginSettings,
    Revision,
    Severity,
    Snapshot,
    Suggestion,
    Target,
    Value,
    count_of,
    first_names,
    format_kib,
    hookimpl,
)
from mom_kvm import ProcessStat, Promises, late_hook, listed_guests, pid_of, root_cure
from mom_plugins_host.capabilities import CpuPinControl, NodeTuneControl
from mom_plugins_host.numa import nodes
from mom_plugins_host.numa.sampler import NodeSampler

SUBJECT = "NUMA"


def findings(hypervisor: Hypervisor | None, root: Path) -> Iterable[Finding]:
    """Yield findings about nodes, placement of guests, and missing capabilities and rights."""
    present = nodes.with_memory(nodes.read_nodes(root))
    if not present:
        yield Finding(Severity.WARNING, SUBJECT, "the kernel shows no NUMA nodes (/sys/devices/system/node)")
    elif len(present) == 1:
        yield Finding(Severity.OK, SUBJECT, "the host has one NUMA node: nothing to do")
    else:
        for node in present:
            cpus, memory = nodes.format_list(node.cpus) or "none", f"{format_kib(node.available)} of {format_kib(node.total)} available"
            yield Finding(Severity.OK, SUBJECT, f"node {node.number}: CPUs {cpus}, {memory}")
    for action, capability in (("pin vCPUs", CpuPinControl), ("choose NUMA nodes", NodeTuneControl)):
        if hypervisor is not None and not isinstance(hypervisor, capability):
            yield Finding(Severity.WARNING, SUBJECT, f"{hypervisor.uri} cannot {action}")
    guests = yield from listed_guests(hypervisor, SUBJECT)
    if guests is not None:
        yield from _about_guests(guests, root)


def _about_guests(guests: Sequence[Guest], root: Path) -> Iterable[Finding]:
    without, unreadable = [], []
    for guest in guests:
        pid, name = pid_of(guest), guest.name
        if pid is None:
            without.append(name)
        elif not ProcessStat.read_file(root / f"proc/{pid}", "numa_maps", 1):
            unreadable.append(name)
    if without:
        message = f"guests {first_names(without)} have no process on this host: their nodes are unknown"
        yield Finding(Severity.WARNING, SUBJECT, message)
    if unreadable:
        message = f"/proc/PID/numa_maps cannot be read for guests {first_names(unreadable)}"
        yield Finding(Severity.WARNING, SUBJECT, message, root_cure())
    if guests and not (without or unreadable):
        yield Finding(Severity.OK, SUBJECT, f"mom sees the nodes of {count_of(len(guests), 'guest')}")


class NumaPlugin:
    """Collector and controller of NUMA nodes, and of the pins and nodes of guests."""

    class Settings(PluginSettings):
        """Settings of the sampler."""

        look_every: Annotated[Duration, Field(ge=1, le=86_400)] = 60.0
        """Shortest time between two readings of a guest's memory and vCPUs. The time is longer if readings would exceed `look_share`."""

        look_share: Annotated[float, Field(gt=0, le=1)] = 0.02
        """Largest share of one CPU for reading guests' memory and vCPUs."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._context = context
        self._nodes: Sequence[nodes.NumaNode] = ()
        share, log = settings.look_share, context.log
        self._sampler = NodeSampler(context.root, settings.look_every, share, lambda: nodes.cpus_to_nodes(self._nodes), log)

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        count = len(nodes.with_memory(nodes.read_nodes(root)))
        return Suggestion(f"this host has {count} NUMA nodes", order=44) if count > 1 else None

    @hookimpl
    def mom_teardown(self) -> None:
        self._sampler.end()

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*nodes.FIELDS, *nodes.CONTROLS)

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        self._nodes = nodes.read_nodes(self._context.root)
        fields = nodes.node_fields(self._nodes)
        balancing = nodes.balancing_knob(self._context.root)
        with suppress(HypervisorError):  # a kernel without NUMA balancing: unknown
            fields[balancing.control.field] = balancing.read()
        return fields

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        entities = [guest.entity for guest in guests]
        samples = self._sampler.follow({guest.id: pid for guest in guests if (pid := pid_of(guest))})
        pins = hypervisor.cpu_pins(entities) if isinstance(hypervisor, CpuPinControl) else {}
        tunes = hypervisor.node_tunes(entities) if isinstance(hypervisor, NodeTuneControl) else {}
        every = frozenset(node.number for node in nodes.with_memory(self._nodes))
        now = time.monotonic()
        collected: dict[str, Mapping[str, Value]] = {}
        for guest in guests:
            fields: dict[str, Value] = {}
            sample = samples.get(guest.id)
            if sample is not None:
                fields.update(sample.fields)
                fields["numa_memory_age"] = round(max(0.0, now - sample.at), 1)
            if pins.get(guest.id):
                fields[nodes.PINS] = nodes.pins_text(pins[guest.id])
            if guest.id in tunes:
                fields[nodes.NODESET] = nodes.nodeset_text(tunes[guest.id], every)
            collected[guest.id] = fields
        return collected

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        return nodes.reviewed(snapshot, decisions, self._context.service(Promises) or Promises())

    @hookimpl
    def mom_read(
        self, hypervisor: Hypervisor, targets: Sequence[Target]
    ) -> Mapping[Target, Value | ControlSpec.InTransition | HypervisorError]:
        # Pins that mom had set only in part when it was killed are in transition.
        values: dict[Target, Value | ControlSpec.InTransition | HypervisorError] = {**nodes.read(self._context.root, hypervisor, targets)}
        for entry in self._context.engine_state().changes:
            target = Target(entry.entity, entry.control)
            if entry.control == nodes.PINS and isinstance(pins := values.get(target), str) and nodes.is_between(pins, entry):
                values[target] = ControlSpec.InTransition(pins)
        return values

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        # Restoring the values does not move memory back.
        return nodes.write(self._context.root, hypervisor, changes)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_host.explanations:NodesExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        return findings(hypervisor, self._context.root)
