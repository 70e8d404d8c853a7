"""Findings of `mom doctor` about the node's pods and guests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from mom_core import Finding, Severity, Value, as_number, count_of, printable
from mom_kvm import Cures
from mom_plugins_kubevirt.hypervisor import KubevirtHypervisor
from mom_plugins_kubevirt.node_fields import PROMISE, REQUEST

SUBJECT: Final = "kubevirt"

_MOST_SHOWN: Final = 5

_CURES: Final = Cures(
    plugin=SUBJECT,
    balloon="remove autoattachMemBalloon: false from their VirtualMachines, and restart them",
    reporting="remove disableFreePageReporting from KubeVirt's virtualMachineOptions, and restart them",
)
"""Fixes that use KubeVirt's API. A change in a pod's libvirt would be lost with the pod."""


def examined(hypervisor: KubevirtHypervisor, *, stats_period: float) -> Iterable[Finding]:
    """Yield findings about pods and guests."""
    guests = hypervisor.guests()
    yield Finding(
        Severity.OK, SUBJECT, f"{count_of(len(hypervisor.node.pods), 'pod')} of KubeVirt; {count_of(len(guests), 'active guest')}"
    )
    troubles = hypervisor.troubles()
    for pod, why in islice(troubles.items(), _MOST_SHOWN):
        yield Finding(
            Severity.WARNING,
            SUBJECT,
            f"pod {printable(pod)}: {why}",
            "check whether the pod has hung or is terminating; mom manages the others",
        )
    if len(troubles) > _MOST_SHOWN:
        yield Finding(Severity.WARNING, SUBJECT, f"mom cannot manage {len(troubles) - _MOST_SHOWN} more pods")
    nameless, cure = hypervisor.node.why_nameless
    if nameless:
        yield Finding(Severity.WARNING, SUBJECT, nameless, cure)
    yield from _CURES.examine(hypervisor, guests, hypervisor.seen(), acts=True, stats_period=stats_period)


def requested_whole(guests: Sequence[tuple[str, Mapping[str, Value]]]) -> Iterable[Finding]:
    """Warn about guests whose pods request all of the guest's memory.

    KubeVirt applies `memoryOvercommitPercentage` only to guests without `resources.requests.memory`.
    """
    whole = []
    for name, fields in guests:
        promised, most = as_number(fields.get(PROMISE)), as_number(fields.get("balloon_max"))
        if REQUEST in fields and promised is not None and most is not None and promised >= most:
            whole.append(printable(name, 60))
    if whole:
        text = Cures.named(whole, " with all of their memory guaranteed, because their pods request it: mom can take nothing from them")
        yield Finding(Severity.WARNING, "requests", text, _OVERCOMMIT_CURE)


_OVERCOMMIT_CURE: Final = (
    "set memory.guest instead of resources.requests.memory in their VirtualMachines, and memoryOvercommitPercentage in KubeVirt; this"
    " takes effect at a guest's next start"
)
