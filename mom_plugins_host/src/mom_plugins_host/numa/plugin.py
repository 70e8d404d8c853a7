"""The plugin: collects where guests are, reviews where they are to be, sets it and reads it back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mom_core import (
    Change,
    Decision,
    Declaration,
    Duration,
    Finding,
    Guest,
    Hypervisor,
    HypervisorError,
    InTransition,
    PluginContext,
    PluginSettings,
    Revision,
    Snapshot,
    Suggestion,
    Target,
    Value,
    hookimpl,
)
from mom_kvm import NO_PROMISES, CpuPinControl, NodeTuneControl, Promises, late_hook, pid_of
from mom_plugins_host.numa import control
from mom_plugins_host.numa.fields import CONTROLS, FIELDS, NODESET, PINS, balancing_knob, nodeset_text, pins_text
from mom_plugins_host.numa.findings import findings
from mom_plugins_host.numa.nodes import NumaNode, cpus_to_nodes, node_fields, read_nodes, with_memory
from mom_plugins_host.numa.review import reviewed
from mom_plugins_host.numa.sampler import NodeSampler


class NumaPlugin:
    """NUMA nodes, where guests are on them, and where they may be."""

    class Settings(PluginSettings):
        """How often it is read where guests are."""

        look_every: Annotated[Duration, Field(ge=1, le=86_400)] = 60.0
        """How often it is read where a guest's memory and vCPUs are, at most: less often where that would take more than `look_share`."""

        look_share: Annotated[float, Field(gt=0, le=1)] = 0.02
        """Share of one CPU that this may use. The kernel walks all page tables of a guest to tell where its memory is."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._context = context
        self._nodes: Sequence[NumaNode] = ()
        self._sampler = NodeSampler(context.root, settings.look_every, settings.look_share, lambda: cpus_to_nodes(self._nodes))

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits a host with several NUMA nodes."""
        count = len(with_memory(read_nodes(root)))
        return Suggestion(f"this host has {count} NUMA nodes", order=44) if count > 1 else None

    @hookimpl
    def mom_teardown(self) -> None:
        """End the sampler."""
        self._sampler.end()

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """Nodes, guests on them, pins, and the kernel's balancing."""
        return (*FIELDS, *CONTROLS)

    # --- collect -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_host(self) -> Mapping[str, Value]:
        """The nodes now."""
        self._nodes = read_nodes(self._context.root)
        fields = node_fields(self._nodes)
        balancing = balancing_knob(self._context.root)
        with suppress(HypervisorError):  # a kernel without it: unknown
            fields[balancing.control.field] = balancing.read()
        return fields

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """Where the guests were seen last, and what is set for them."""
        entities = [guest.entity for guest in guests]
        samples = self._sampler.follow({guest.id: pid for guest in guests if (pid := pid_of(guest))})
        pins = hypervisor.cpu_pins(entities) if isinstance(hypervisor, CpuPinControl) else {}
        tunes = hypervisor.node_tunes(entities) if isinstance(hypervisor, NodeTuneControl) else {}
        every = frozenset(node.number for node in with_memory(self._nodes))
        now = time.monotonic()
        collected: dict[str, Mapping[str, Value]] = {}
        for guest in guests:
            fields: dict[str, Value] = {}
            sample = samples.get(guest.id)
            if sample is not None:
                fields.update(sample.fields)
                fields["numa_memory_age"] = round(max(0.0, now - sample.at), 1)
            if pins.get(guest.id):
                fields[PINS] = pins_text(pins[guest.id])
            if guest.id in tunes:
                fields[NODESET] = nodeset_text(tunes[guest.id], every)
            collected[guest.id] = fields
        return collected

    # --- control -----------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_review(self, snapshot: Snapshot, decisions: Sequence[Decision]) -> Iterable[Revision]:
        """No guest is bound to where there is no memory for it, whatever plugin decides so."""
        return reviewed(snapshot, decisions, self._context.service(Promises) or NO_PROMISES)

    @hookimpl
    def mom_read(self, hypervisor: Hypervisor, targets: Sequence[Target]) -> Mapping[Target, Value | InTransition | HypervisorError]:
        """Values of the controls. Pins of which a mom that was cut off has set only some are its own doing."""
        found: dict[Target, Value | InTransition | HypervisorError] = {**control.read(self._context.root, hypervisor, targets)}
        for entry in self._context.engine_state().changes:
            target = Target(entry.entity, entry.control)
            if entry.control == PINS and isinstance(pins := found.get(target), str) and control.is_between(pins, entry):
                found[target] = InTransition(pins)
        return found

    @hookimpl
    def mom_write(self, hypervisor: Hypervisor, changes: Sequence[Change]) -> Mapping[Target, HypervisorError]:
        """Set them. Memory that the hypervisor moved stays where it is when they are put back."""
        return control.write(self._context.root, hypervisor, changes)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_host.numa.explanation:NodesExplainer")

    @hookimpl
    def mom_doctor(self, hypervisor: Hypervisor | None) -> Iterable[Finding]:
        """Nodes, guests, and what places them."""
        return findings(hypervisor, self._context.root)
