"""The kubevirt plugin: settings, declarations and hooks."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from mom_core import (
    Condition,
    Decision,
    Declaration,
    Finding,
    Guest,
    Hypervisor,
    PluginContext,
    Problem,
    Severity,
    Snapshot,
    Source,
    Suggestion,
    Value,
    hookimpl,
)
from mom_kvm import PluginOfGuests, late_hook
from mom_plugins_kubevirt.kubelet_watch import KubeletSettings
from mom_plugins_kubevirt.node_fields import FIELDS
from mom_plugins_libvirt import GUEST_FIELDS

if TYPE_CHECKING:
    from mom_plugins_kubevirt.hypervisor import KubevirtHypervisor
    from mom_plugins_kubevirt.node_facts import NodeFacts

_SIGNS: Final = ("var/run/kubevirt", "var/lib/kubevirt")

_FILES: Final = 65536
"""Limit of open files that mom sets for itself. mom opens six files for each pod, and the usual limit is 1024."""


class KubevirtPlugin(PluginOfGuests["KubevirtHypervisor"]):
    """Manager of KubeVirt's QEMU guests on this node. Each guest runs under the libvirt of its own pod."""

    class Settings(PluginOfGuests.Settings):
        """Sources of pods' names and requests."""

        pod_logs: str = "/var/log/pods"
        """The kubelet's folder of pod logs (`podLogsDir`) on the node. mom learns each pod's namespace and name from it."""

        kubelet: KubeletSettings = KubeletSettings()
        """Access to the node's kubelet, from which mom reads the pods' memory requests and the eviction thresholds."""
        memory_overcommit_percentage: Annotated[float, Field(ge=10, le=1000)] | None = None
        """KubeVirt's `memoryOvercommitPercentage`. mom uses it for guests whose pod's request is unknown. Their guarantee is their memory
        divided by this percentage, for example two thirds of it with 150. Unset: they have no guarantee, and keep the memory that they
        use."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._facts: NodeFacts | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        sign = next((sign for sign in _SIGNS if (root / sign).exists()), None)
        return None if sign is None else Suggestion(f"there is /{sign}: this is a node of KubeVirt", order=20)

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        return (*super().mom_declare(), *GUEST_FIELDS, *FIELDS)

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        # Commands that run once need no thread: they search for pods when they list the guests.
        # Late import: commands that only list plugins do not need libvirt.
        from mom_plugins_kubevirt.hypervisor import KubevirtHypervisor
        from mom_plugins_kubevirt.node_facts import NodeFacts
        from mom_plugins_kubevirt.pod_libvirt import Means
        from mom_plugins_kubevirt.pods import Pods
        from mom_plugins_libvirt import EventLoop, binding

        context, settings = self._context, self._settings
        module = binding()
        loop = EventLoop(module) if context.serves else None
        means = Means(context, module, loop)
        hypervisor = KubevirtHypervisor(Pods(context.root, Path(settings.pod_logs), context.monotonic), means)
        self._facts = facts = NodeFacts(context, settings.kubelet, settings.memory_overcommit_percentage)
        self._hypervisor = hypervisor
        _allow_files()
        if loop is not None:
            loop.start()
            facts.kubelet.start()
            hypervisor.watch()
            if settings.watch:
                self._watch_by(hypervisor)

    @hookimpl
    def mom_teardown(self) -> None:
        self._stop_watching()
        if self._facts is not None:
            self._facts.kubelet.stop()
        if self._hypervisor is not None:
            self._hypervisor.close()

    # --- collect and act ---------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        own, facts = self._own(hypervisor), self._facts
        if own is None or facts is None:
            return {}
        fields_by_guest = {identity: dict(fields) for identity, fields in super().mom_collect_guests(hypervisor, guests).items()}
        facts.add_to(fields_by_guest, own.pods_of([guest.entity for guest in guests]))
        return fields_by_guest

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        return {**super().mom_collect_host(hypervisor), **({} if self._facts is None else self._facts.host_fields())}

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        yield from super().mom_act(snapshot)
        if self._facts is not None:
            yield from self._facts.decisions(snapshot, Source(self._context.name))

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem | Condition]:
        yield from super().mom_problems(snapshot)
        if self._hypervisor is None or self._facts is None:
            return
        yield from self._facts.conditions()
        source = Source(self._context.name)
        if (why := self._facts.why_unknown) and self._settings.memory_overcommit_percentage is None:
            yield Problem(source, why, None, Severity.WARNING, "`mom doctor` shows how mom guarantees memory meanwhile, and the fix")
        for text, cure in self._hypervisor.problems():
            yield Problem(source, text, None, Severity.WARNING, cure)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_kubevirt.explanation:PodExplainer")

    def _examined(self, hypervisor: KubevirtHypervisor) -> Iterable[Finding]:
        from mom_plugins_kubevirt.hypervisor import examined
        from mom_plugins_kubevirt.node_facts import requested_whole

        yield from examined(hypervisor, stats_period=self._settings.stats_period)
        if self._facts is not None:
            yield from self._facts.findings(list(hypervisor.node.pods.values()))
            guests = hypervisor.guests()
            fields = self.mom_collect_guests(hypervisor, guests)
            yield from requested_whole([(guest.name, fields.get(guest.id, {})) for guest in guests])


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
