"""Guarantees of KubeVirt's guests: the pod's memory request without KubeVirt's overhead.

Source: kubevirt/kubevirt, pkg/virt-controller/services/renderresources.go (`WithMemoryRequests`, `GetMemoryOverhead`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mom_kvm import kib_in, read_kernel_file
from mom_plugins_kubevirt.kubelet_api import member, objects_of, quantity_kib
from mom_plugins_kubevirt.node_fields import ASKING

COMPUTE: Final = "compute"
"""Container with QEMU."""

MOST_PODS: Final = 2000
_MOST_CONTAINERS: Final = 64

_MIB: Final = 1024.0
_FIXED_MIB: Final = 25 + 75 + 17 + 33 + 30 + 8
"""Least overhead of KubeVirt's versions: virt-launcher-monitor, virt-launcher, virtlogd, libvirt's daemon, QEMU itself, and its I/O thread.
Newer versions have 220 MiB."""

_VCPU_MIB: Final = 8
_PAGE_TABLE_SHARE: Final = 1 / 512
"""Share of the request."""

EVICTED: Final = "descheduler.alpha.kubernetes.io/eviction-in-progress"
"""Annotation of a pod whose guest must move (kubevirt/kubevirt, pkg/virt-controller/watch/drain/evacuation)."""


class PodRequest(NamedTuple):
    """Pod according to the kubelet: memory request of its container `compute` in KiB, and whether its guest must move."""

    memory: float | None
    leaves: bool = False


class PodPromise(NamedTuple):
    """Guest's guarantee in KiB, its pod's request, and who reports it."""

    kib: float
    request: float | None
    by: str


def pods_in(answer: Mapping[str, Any]) -> dict[str, PodRequest]:
    """Return the pods with a container `compute`, keyed by uid, without malformed pods."""
    requests: dict[str, PodRequest] = {}
    for pod in objects_of(answer.get("items"), MOST_PODS):
        uid = member(pod, "metadata", "uid")
        containers = objects_of(member(pod, "spec", "containers"), _MOST_CONTAINERS)
        compute = next((container for container in containers if container.get("name") == COMPUTE), None)
        if not isinstance(uid, str) or compute is None:
            continue
        memory = quantity_kib(member(compute, "resources", "requests", "memory"))
        leaves = member(pod, "metadata", "annotations", EVICTED) is not None
        requests[uid] = PodRequest(memory, leaves)
    return requests


def overhead_kib(request_kib: float, vcpus: float | None) -> float:
    """Return the least overhead in KiB in a request.

    :param vcpus: None counts as one
    """
    return _MIB * (_FIXED_MIB + _VCPU_MIB * max(1.0, vcpus or 1.0)) + _PAGE_TABLE_SHARE * request_kib


def promise_by_request(request_kib: float, guest_kib: float | None, vcpus: float | None) -> float:
    """Return the guarantee in KiB.

    A request of exactly the guest's size has no overhead (`overcommitGuestOverhead`).

    :param guest_kib: the guest's largest size
    """
    if guest_kib is not None and abs(request_kib - guest_kib) < _MIB:
        return min(request_kib, guest_kib)
    promised = max(0.0, request_kib - overhead_kib(request_kib, vcpus))
    return promised if guest_kib is None else min(promised, guest_kib)


def protected_kib(pod_group: str, container_group: str = "") -> float | None:
    """Return the memory in KiB that the kernel protects for a pod (kubelet's MemoryQoS).

    :param container_group: folder of the container's cgroup; empty if unknown
    """
    for group in (container_group, pod_group):
        limits = [kib for file in ("memory.min", "memory.low") if group and (kib := kib_in(f"{group}/{file}"))]
        if limits:
            return float(max(limits))
    return None


def vouched_kib(request: float | None, pod_group: str, process: str, node_kib: int | None) -> float | None:
    """Return the most memory in KiB that the node keeps for a pod; None if unknown.

    Without a request, the OOM score is a limit: 1000 minus the container's thousandths of the node's memory (pkg/kubelet/qos/policy.go). A
    process can only raise it.

    :param process: folder in /proc of one of its processes
    """
    if request is not None:
        return request
    score = read_kernel_file(f"{process}/oom_score_adj").strip()
    requested = (1001 - int(score)) / 1000 * node_kib if node_kib is not None and score.isdigit() and int(score) > 0 else None
    limit = kib_in(f"{pod_group}/memory.max") if pod_group else None
    return min((kib for kib in (requested, limit) if kib is not None), default=None)


def promise_of(
    pod: PodRequest | None,
    protected: float | None,
    guest_kib: float | None,
    vcpus: float | None,
    percentage: float | None,
    size_kib: float | None = None,
) -> PodPromise | None:
    """Return a guest's guarantee, and who reports it; None if unknown.

    :param protected: memory that its cgroup protects
    :param percentage: the operator's `memoryOvercommitPercentage`
    :param size_kib: the guest's size until the kubelet has answered, because all of it may be guaranteed
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
