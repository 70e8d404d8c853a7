"""Guarantees of KubeVirt's guests, and the memory limits and pressure of their pods' cgroups (v2).

A guarantee is the pod's memory request minus KubeVirt's overhead. The calculation follows kubevirt/kubevirt,
pkg/virt-controller/services/renderresources.go (`WithMemoryRequests`, `GetMemoryOverhead`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from mom_kvm import GroupLimit, read_kernel_file
from mom_plugins_kubevirt.kubelet_api import Pod, quantity_kib
from mom_plugins_kubevirt.node_fields import ASKING

COMPUTE: Final = "compute"
"""Name of the container in which QEMU runs."""

_MIB: Final = 1024.0
_FIXED_MIB: Final = 25 + 75 + 17 + 33 + 30 + 8
"""Smallest fixed overhead of all KubeVirt versions: virt-launcher-monitor, virt-launcher, virtlogd, libvirt's daemon, QEMU itself, and
QEMU's I/O thread. In newer versions it is 220 MiB."""

_VCPU_MIB: Final = 8
_PAGE_TABLE_SHARE: Final = 1 / 512
"""Page tables, as a fraction of the request."""

EVICTED: Final = "descheduler.alpha.kubernetes.io/eviction-in-progress"
"""Annotation of a pod whose guest must move (kubevirt/kubevirt, pkg/virt-controller/watch/drain/evacuation)."""


class PodRequest(NamedTuple):
    """Pod as the kubelet reports it. `memory` is the request of the container `compute` in KiB. `leaves`: whether the guest must move."""

    memory: float | None
    leaves: bool = False


class PodPromise(NamedTuple):
    """Guarantee of a guest in KiB, its pod's request (None if unknown), and the source of the guarantee."""

    kib: float
    request: float | None
    by: str


def requests_in(pods: Iterable[Pod | None]) -> dict[str, PodRequest]:
    """Return the pods with a container `compute`, keyed by UID."""
    requests: dict[str, PodRequest] = {}
    for pod in filter(None, pods):
        for container in pod.spec.containers:
            if container.name == COMPUTE:
                memory = quantity_kib(container.resources.requests.get("memory", ""))
                requests[pod.metadata.uid] = PodRequest(memory, EVICTED in pod.metadata.annotations)
    return requests


def overhead_kib(request_kib: float, vcpus: float | None) -> float:
    """Return the least overhead in KiB that a pod's request contains.

    :param vcpus: number of the guest's vCPUs; None counts as one
    """
    return _MIB * (_FIXED_MIB + _VCPU_MIB * max(1.0, vcpus or 1.0)) + _PAGE_TABLE_SHARE * request_kib


def promise_by_request(request_kib: float, guest_kib: float | None, vcpus: float | None) -> float:
    """Return the guarantee in KiB that follows from a request.

    A request of exactly the guest's size contains no overhead (`overcommitGuestOverhead`).

    :param guest_kib: the guest's largest size
    """
    if guest_kib is not None and abs(request_kib - guest_kib) < _MIB:
        return min(request_kib, guest_kib)
    promised = max(0.0, request_kib - overhead_kib(request_kib, vcpus))
    return promised if guest_kib is None else min(promised, guest_kib)


def protected_kib(pod_group: str, container_group: str = "") -> float | None:
    """Return the memory in KiB that the kernel protects for a pod (kubelet's MemoryQoS); None if there is none.

    :param container_group: folder of the container's cgroup; empty if unknown
    """
    for group in (container_group, pod_group):
        limits = [kib for file in ("memory.min", "memory.low") if group and (kib := GroupLimit.kib_in(f"{group}/{file}"))]
        if limits:
            return float(max(limits))
    return None


def vouched_kib(request: float | None, pod_group: str, process: str, node_kib: int | None) -> float | None:
    """Return the most memory in KiB that the node keeps for a pod; None if unknown.

    If the request is unknown, mom derives it from the OOM score, which is 1000 minus the request in thousandths of the node's memory
    (pkg/kubelet/qos/policy.go). A process can only raise its score.
    """
    if request is not None:
        return request
    score = read_kernel_file(f"{process}/oom_score_adj").strip()
    requested = (1001 - int(score)) / 1000 * node_kib if node_kib is not None and score.isdigit() and int(score) > 0 else None
    limit = GroupLimit.kib_in(f"{pod_group}/memory.max") if pod_group else None
    return min((kib for kib in (requested, limit) if kib is not None), default=None)


def promise_of(
    pod: PodRequest | None,
    protected: float | None,
    guest_kib: float | None,
    vcpus: float | None,
    percentage: float | None,
    size_kib: float | None = None,
) -> PodPromise | None:
    """Return a guest's guarantee and its source; None if unknown.

    :param protected: KiB that the kernel protects for the pod's cgroup
    :param percentage: `memoryOvercommitPercentage` according to the operator
    :param size_kib: the guest's size before the kubelet's first answer, because all of it may be guaranteed; afterwards None
    """
    if pod is not None and pod.memory is not None:
        return PodPromise(promise_by_request(pod.memory, guest_kib, vcpus), pod.memory, "the kubelet")
    if protected is not None:
        return PodPromise(promise_by_request(protected, guest_kib, vcpus), protected, "its control group")
    if size_kib is not None:
        return PodPromise(size_kib, None, ASKING)
    if percentage is not None and guest_kib is not None:
        return PodPromise(guest_kib * min(1.0, 100 / percentage), None, "the setting memory_overcommit_percentage")
    return None
