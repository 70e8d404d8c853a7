"""The plugin: settings, declarations, and the hooks that hand work to the hypervisor."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, model_validator

from mom_core import (
    Condition,
    Decision,
    Declaration,
    Duration,
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
    format_duration,
    hookimpl,
    printable,
)
from mom_kvm import PluginOfGuests, late_hook
from mom_plugins_kubevirt.kubelet_settings import KubeletSettings
from mom_plugins_kubevirt.node_fields import FIELDS
from mom_plugins_libvirt import GUEST_FIELDS, HOST_FIELDS

if TYPE_CHECKING:
    from mom_plugins_kubevirt.hypervisor import KubevirtHypervisor
    from mom_plugins_kubevirt.node_facts import NodeFacts

_SIGNS: Final = ("var/run/kubevirt", "var/lib/kubevirt")
"""Folders that virt-handler makes on each node on which it runs."""

_FILES: Final = 65536
"""mom has six files open for each pod, and the usual limit is 1024."""

_MOST_PROBLEMS: Final = 10
"""Pods of which one cycle tells that they cannot be managed."""


class KubevirtPlugin(PluginOfGuests["KubevirtHypervisor"]):
    """QEMU guests of KubeVirt on this node, each under the libvirt of its own pod."""

    class Settings(PluginOfGuests.Settings):
        """How patient to be with the pods' libvirts, where the node says whose pods they are, and what these request."""

        call_timeout: Annotated[Duration, Field(gt=0, le=60)] = 1.0
        """How long to wait for one answer of a pod's libvirt. One that hangs costs the others nothing. Less than half of `deadline`."""
        readonly: bool = False
        """Change nothing of guests: mom only watches."""
        pod_logs: str = "/var/log/pods"
        """kubelet's folder of pods' logs (`podLogsDir`) on the node: it tells the namespace and the name of each pod."""

        kubelet: KubeletSettings = KubeletSettings()
        """How the node's kubelet is asked what pods request, and at what it evicts them."""
        memory_overcommit_percentage: Annotated[float, Field(ge=10, le=1000)] | None = None
        """KubeVirt's `memoryOvercommitPercentage`: where neither the kubelet nor control groups say what a pod requests, its guest is
        promised its memory divided by this; 150: two thirds. Unset: then it is promised nothing, and keeps what it uses."""

        @model_validator(mode="after")
        def _calls_fit_into_the_deadline(self) -> KubevirtPlugin.Settings:
            if 2 * self.call_timeout >= self.deadline:
                raise ValueError(f"call_timeout must be less than half of deadline, which is {format_duration(self.deadline)}")
            return self

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._facts: NodeFacts | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        """Fits a node on which virt-handler runs."""
        sign = next((sign for sign in _SIGNS if (root / sign).exists()), None)
        return None if sign is None else Suggestion(f"there is /{sign}: this is a node of KubeVirt", order=20)

    @hookimpl
    def mom_declare(self) -> Iterable[Declaration]:
        """The fields of each guest and of all together, and the statistics period."""
        return (*super().mom_declare(), *GUEST_FIELDS, *HOST_FIELDS, *FIELDS)

    # --- life --------------------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_setup(self) -> None:
        """Begin to look for pods. A command that only takes a look does so when it asks for the guests."""
        # Loaded here, as commands that only list plugins must not wait for libvirt.
        from mom_plugins_kubevirt.hypervisor import KubevirtHypervisor
        from mom_plugins_kubevirt.node_facts import NodeFacts
        from mom_plugins_kubevirt.pod_libvirt import Means
        from mom_plugins_kubevirt.pods import Pods
        from mom_plugins_libvirt import EventLoop, binding

        context, settings = self._context, self._settings
        module = binding()
        loop = EventLoop(module) if context.serves else None
        means = Means(context, module, loop, settings.call_timeout, settings.readonly, settings.stale_after)
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
        """Watch no longer, and let the connections go."""
        self._stop_watching()
        if self._facts is not None:
            self._facts.kubelet.stop()
        if self._hypervisor is not None:
            self._hypervisor.close()

    # --- collect and act ---------------------------------------------------------------------------------------------------------

    @hookimpl
    def mom_collect_guests(self, hypervisor: Hypervisor, guests: Sequence[Guest]) -> Mapping[str, Mapping[str, Value]]:
        """What was said about the guests when they were listed, and what the node knows of them."""
        own, facts = self._own(hypervisor), self._facts
        if own is None or facts is None:
            return {}
        found = {identity: dict(fields) for identity, fields in super().mom_collect_guests(hypervisor, guests).items()}
        facts.add_to(found, own.pods_of([guest.entity for guest in guests]))
        return found

    @hookimpl
    def mom_collect_host(self, hypervisor: Hypervisor) -> Mapping[str, Value]:
        """How many guests there are that cannot be relied on, and how far the kubelet is from evicting."""
        return {**super().mom_collect_host(hypervisor), **({} if self._facts is None else self._facts.host_fields())}

    @hookimpl
    def mom_act(self, snapshot: Snapshot) -> Iterable[Decision]:
        """Decide as for guests of one libvirt, and as the facts of the node ask for."""
        yield from super().mom_act(snapshot)
        if self._facts is not None:
            yield from self._facts.decisions(snapshot, Source(self._context.name))

    @hookimpl
    def mom_problems(self, snapshot: Snapshot) -> Iterable[Problem | Condition]:
        """Report as for guests of one libvirt; also pods that cannot be managed, unknown requests, and evictions by the kubelet."""
        yield from super().mom_problems(snapshot)
        if self._hypervisor is None or self._facts is None:
            return
        yield from self._facts.conditions()
        source = Source(self._context.name)
        if (why := self._facts.why_unknown) and self._settings.memory_overcommit_percentage is None:
            yield Problem(source, why, None, Severity.WARNING, "`mom doctor` says what is promised then, and what to do")
        for pod, why in islice(self._hypervisor.troubles().items(), _MOST_PROBLEMS):
            yield Problem(source, f"pod {printable(pod)}: {why}", None, Severity.WARNING, "look at the pod; the others are managed")
        nameless, cure = self._hypervisor.node.why_nameless
        if nameless:
            yield Problem(source, nameless, None, Severity.WARNING, cure)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    mom_explainer = late_hook("mom_plugins_kubevirt.explanation:PodExplainer")

    def _examined(self, hypervisor: KubevirtHypervisor) -> Iterable[Finding]:
        from mom_plugins_kubevirt.doctor import examined, requested_whole

        yield from examined(hypervisor, readonly=self._settings.readonly, stats_period=self._settings.stats_period)
        if self._facts is not None:
            yield from self._facts.findings(list(hypervisor.node.pods.values()))
            guests = hypervisor.guests()
            fields = self.mom_collect_guests(hypervisor, guests)
            yield from requested_whole([(guest.name, fields.get(guest.id, {})) for guest in guests])


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
