"""What a guest of KubeVirt is promised: the memory that its pod requests, without what KubeVirt adds to it for its own programs.

KubeVirt makes the request of the container `compute` from the guest's memory (divided by `memoryOvercommitPercentage`, where that is set)
and an overhead that it works out: kubevirt/kubevirt, pkg/virt-controller/services/renderresources.go (`WithMemoryRequests`,
`WithMemoryOverhead`), and `GetMemoryOverhead`. The kubelet's list of pods tells what was requested; where that cannot be had, the pod's
control group says it if the kubelet has the kernel protect it (its feature MemoryQoS); else an operator may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mom_kvm import kib_in, read_kernel_file
from mom_plugins_kubevirt.kubelet_api import member, objects_of
from mom_plugins_kubevirt.node_fields import ASKING
from mom_plugins_kubevirt.quantities import quantity_kib

COMPUTE: Final = "compute"
"""The container with QEMU."""

MOST_PODS: Final = 2000
MOST_CONTAINERS: Final = 64

_MIB: Final = 1024.0
FIXED_MIB: Final = 25 + 75 + 17 + 33 + 30 + 8
"""virt-launcher-monitor, virt-launcher, virtlogd, libvirt's daemon, QEMU without its guest, and its I/O thread: the least of what versions
of KubeVirt count for them (0.54; newer ones count 220 instead of 180). To take off too little promises the guest a little more."""

VCPU_MIB: Final = 8
PAGE_TABLE_SHARE: Final = 1 / 512
"""Of the request: one bit for every 512 of memory."""

EVICTED: Final = "descheduler.alpha.kubernetes.io/eviction-in-progress"
"""The annotation of a pod whose guest is to be moved elsewhere, from before its migration begins: kubevirt/kubevirt,
pkg/virt-controller/watch/drain/evacuation."""


class PodRequest(NamedTuple):
    """One pod by the kubelet: the memory that its container `compute` requests, in KiB (None: none); whether its guest is to be moved."""

    memory: float | None
    leaves: bool = False


class PodPromise(NamedTuple):
    """What a guest is promised in KiB, what its pod requests, and who says so."""

    kib: float
    request: float | None
    by: str


def pods_in(answer: Mapping[str, Any]) -> dict[str, PodRequest]:
    """The pods in the kubelet's answer that have a container `compute`, by their uids. What is malformed is left out."""
    found: dict[str, PodRequest] = {}
    for pod in objects_of(answer.get("items"), MOST_PODS):
        uid = member(pod, "metadata", "uid")
        containers = objects_of(member(pod, "spec", "containers"), MOST_CONTAINERS)
        compute = next((one for one in containers if one.get("name") == COMPUTE), None)
        if not isinstance(uid, str) or compute is None:
            continue
        memory = quantity_kib(member(compute, "resources", "requests", "memory"))
        leaves = member(pod, "metadata", "annotations", EVICTED) is not None
        found[uid] = PodRequest(memory, leaves)
    return found


def overhead_kib(request_kib: float, vcpus: float | None) -> float:
    """What KubeVirt has added to a request at least, in KiB.

    :param vcpus: of the guest; None: unknown, and taken for one
    """
    return _MIB * (FIXED_MIB + VCPU_MIB * max(1.0, vcpus or 1.0)) + PAGE_TABLE_SHARE * request_kib


def promise_by_request(request_kib: float, guest_kib: float | None, vcpus: float | None) -> float:
    """What a request promises its guest, in KiB.

    A request of just what the guest has is one to which no overhead was added (`overcommitGuestOverhead`), and promises it all of that.

    :param guest_kib: the most that the guest can have; None: unknown
    """
    if guest_kib is not None and abs(request_kib - guest_kib) < _MIB:
        return min(request_kib, guest_kib)
    promised = max(0.0, request_kib - overhead_kib(request_kib, vcpus))
    return promised if guest_kib is None else min(promised, guest_kib)


def protected_kib(pod_group: str, container_group: str = "") -> float | None:
    """The memory of a pod that the kernel protects, as the kubelet has it do so with its feature MemoryQoS; None: none.

    :param pod_group: the folder of the pod's control group
    :param container_group: that of the container with QEMU: its own request is told there; empty: not known
    """
    for group in (container_group, pod_group):
        known = [kib for file in ("memory.min", "memory.low") if group and (kib := kib_in(f"{group}/{file}"))]
        if known:
            return float(max(known))
    return None


def vouched_kib(request: float | None, pod_group: str, process: str, node_kib: int | None) -> float | None:
    """Return the most memory that the node keeps for a pod, in KiB; None: unknown.

    Where its request is not known, the score that the kubelet gives processes of the class Burstable bounds it: 1000, less the thousandths
    of the node's memory that their container requests (kubernetes/kubernetes, pkg/kubelet/qos/policy.go). A process can only raise its
    score, which bounds its own pod more.

    :param request: what it requests; None: unknown
    :param pod_group: the folder of its control group; empty: not known
    :param process: the folder in /proc of a process in it
    :param node_kib: the node's memory; None: unknown
    """
    if request is not None:
        return request
    score = read_kernel_file(f"{process}/oom_score_adj").strip()
    requested = (1001 - int(score)) / 1000 * node_kib if node_kib is not None and score.isdigit() and int(score) > 0 else None
    limit = kib_in(f"{pod_group}/memory.max") if pod_group else None
    return min((kib for kib in (requested, limit) if kib is not None), default=None)


def promise_of(
    asked: PodRequest | None,
    protected: float | None,
    guest_kib: float | None,
    vcpus: float | None,
    percentage: float | None,
    size_kib: float | None = None,
) -> PodPromise | None:
    """What a guest is promised, and who says so; None: nothing is known of it.

    :param asked: its pod, by the kubelet; None: the kubelet was not asked, or does not know it
    :param protected: what its control group protects
    :param percentage: KubeVirt's `memoryOvercommitPercentage`, by the operator
    :param size_kib: the guest's size while the kubelet has not answered yet, which may promise all of that; None: it has, or is not asked
    """
    if asked is not None and asked.memory is not None:
        return PodPromise(promise_by_request(asked.memory, guest_kib, vcpus), asked.memory, "the kubelet")
    if protected is not None:
        return PodPromise(promise_by_request(protected, guest_kib, vcpus), protected, "its control group")
    if size_kib is not None:
        return PodPromise(size_kib, None, ASKING)
    if percentage is not None and guest_kib is not None:
        return PodPromise(guest_kib * min(1.0, 100 / percentage), None, "the setting memory_overcommit_percentage")
    return None
