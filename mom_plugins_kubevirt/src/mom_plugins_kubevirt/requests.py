"""Guarantees of KubeVirt's guests: the pod's memory request, without the overhead for KubeVirt's own programs.

KubeVirt computes the request of the container `compute` from the guest's memory (divided by `memoryOvercommitPercentage`, if set) and an
overhead: kubevirt/kubevirt, pkg/virt-controller/services/renderresources.go (`WithMemoryRequests`, `WithMemoryOverhead`,
`GetMemoryOverhead`). The kubelet's list of pods reports the request. Otherwise the pod's control group may show it (the kubelet's feature
MemoryQoS), or the operator's setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mom_kvm import kib_in, read_kernel_file
from mom_plugins_kubevirt.kubelet_api import member, objects_of, quantity_kib
from mom_plugins_kubevirt.node_fields import ASKING

COMPUTE: Final = "compute"
"""Name of the container with QEMU."""

MOST_PODS: Final = 2000
_MOST_CONTAINERS: Final = 64

_MIB: Final = 1024.0
_FIXED_MIB: Final = 25 + 75 + 17 + 33 + 30 + 8
"""virt-launcher-monitor, virt-launcher, virtlogd, libvirt's daemon, QEMU without its guest, and its I/O thread. It is the least of
KubeVirt's versions (0.54 has 180 MiB, newer ones 220). A smaller overhead guarantees the guest a little more."""

_VCPU_MIB: Final = 8
_PAGE_TABLE_SHARE: Final = 1 / 512
"""Share of the request: one bit for every 512 of memory."""

EVICTED: Final = "descheduler.alpha.kubernetes.io/eviction-in-progress"
"""Annotation of a pod whose guest must move, set before its migration begins: kubevirt/kubevirt,
pkg/virt-controller/watch/drain/evacuation."""


class PodRequest(NamedTuple):
    """One pod by the kubelet: the memory request of its container `compute` in KiB (None: none), and whether its guest must move."""

    memory: float | None
    leaves: bool = False


class PodPromise(NamedTuple):
    """A guest's guarantee in KiB, its pod's request, and who reports it."""

    kib: float
    request: float | None
    by: str


def pods_in(answer: Mapping[str, Any]) -> dict[str, PodRequest]:
    """Return the pods with a container `compute` in the kubelet's answer, by uid. Malformed ones are left out."""
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
    """Return the least overhead in KiB that KubeVirt has added to a request.

    :param vcpus: of the guest; None: unknown, counts as one
    """
    return _MIB * (_FIXED_MIB + _VCPU_MIB * max(1.0, vcpus or 1.0)) + _PAGE_TABLE_SHARE * request_kib


def promise_by_request(request_kib: float, guest_kib: float | None, vcpus: float | None) -> float:
    """Return the guarantee in KiB from a request.

    A request of exactly the guest's size has no overhead (`overcommitGuestOverhead`), and guarantees all of it.

    :param guest_kib: the guest's largest size; None: unknown
    """
    if guest_kib is not None and abs(request_kib - guest_kib) < _MIB:
        return min(request_kib, guest_kib)
    promised = max(0.0, request_kib - overhead_kib(request_kib, vcpus))
    return promised if guest_kib is None else min(promised, guest_kib)


def protected_kib(pod_group: str, container_group: str = "") -> float | None:
    """Return the memory in KiB that the kernel protects for a pod, by the kubelet's feature MemoryQoS; None: none.

    :param pod_group: folder of the pod's control group
    :param container_group: folder of the container's group, which has its own request; empty: unknown
    """
    for group in (container_group, pod_group):
        limits = [kib for file in ("memory.min", "memory.low") if group and (kib := kib_in(f"{group}/{file}"))]
        if limits:
            return float(max(limits))
    return None


def vouched_kib(request: float | None, pod_group: str, process: str, node_kib: int | None) -> float | None:
    """Return the most memory in KiB that the node keeps for a pod; None: unknown.

    Without a known request, the OOM score of its processes bounds it. For the class Burstable, the kubelet sets 1000 minus the container's
    thousandths of the node's memory (kubernetes/kubernetes, pkg/kubelet/qos/policy.go). A process can only raise its score, which lowers
    its own bound.

    :param request: its request; None: unknown
    :param pod_group: folder of its control group; empty: unknown
    :param process: folder in /proc of one of its processes
    :param node_kib: the node's memory; None: unknown
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
    """Return a guest's guarantee, and who reports it; None: unknown.

    :param pod: its pod by the kubelet; None: the kubelet was not asked, or does not know it
    :param protected: memory that its control group protects
    :param percentage: KubeVirt's `memoryOvercommitPercentage` by the operator
    :param size_kib: the guest's size while the kubelet has not answered yet, as it may guarantee all of that; else None
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
