"""Facts from the node about guarantees, evictions and migrations of guests.

A guarantee is the pod's memory request minus KubeVirt's overhead. The calculation follows kubevirt/kubevirt,
pkg/virt-controller/services/renderresources.go (`WithMemoryRequests`, `GetMemoryOverhead`).

The kubelet counts active page cache as used (pkg/kubelet/eviction/helpers.go, `memoryAvailable`). So it may evict pods although
`MemAvailable` is large.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import (
    Condition,
    Decision,
    Finding,
    PluginContext,
    Severity,
    Snapshot,
    Source,
    Value,
    as_number,
    count_of,
    format_kib,
    printable,
)
from mom_kvm import Cures, GroupLimit, GuestField, read_kernel_file, read_meminfo
from mom_plugins_kubevirt.kubelet_api import KubeletConfig, PodRequest
from mom_plugins_kubevirt.kubelet_watch import KubeletSettings, KubeletWatch
from mom_plugins_kubevirt.node_fields import ASKING, EVICTS_BELOW, PROMISE, PROMISED_BY, REQUEST, ROOM, THRESHOLD
from mom_plugins_kubevirt.pods import LauncherPod

_MIB: Final = 1024.0
_FIXED_MIB: Final = 25 + 75 + 17 + 33 + 30 + 8
"""Smallest fixed overhead of all KubeVirt versions: virt-launcher-monitor, virt-launcher, virtlogd, libvirt's daemon, QEMU itself, and
QEMU's I/O thread. In newer versions it is 220 MiB."""

_VCPU_MIB: Final = 8
_PAGE_TABLE_SHARE: Final = 1 / 512
"""Page tables, as a fraction of the request."""

EVICTION: Final = "eviction"

_SOON_KIB: Final = 64 << 10
"""mom begins to warn when this much is left until an eviction. A guest can use it up in a fifth of a second."""

_PODS: Final = ("kubepods.slice", "kubepods")
"""Cgroup of all pods, with the kubelet's systemd driver and without it."""

_EVICTION_CURE: Final = (
    "move guests away (`virtctl migrate`, or cordon and drain the node), start no more guests, or reduce memory.available of the kubelet's"
    " evictionHard and evictionSoft"
)


class PodPromise(NamedTuple):
    """Guarantee of a guest in KiB, its pod's request (None if unknown), and the source of the guarantee."""

    kib: float
    request: float | None
    by: str


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


class EvictionRoom(NamedTuple):
    """Memory in KiB that is left until the kubelet evicts pods.

    `room` is negative during an eviction. `evicts_below` is the kernel's available memory at which evictions begin. If `pods` is True,
    `threshold` and `available` concern all pods together.
    """

    room: float
    threshold: float
    available: float
    pods: bool
    evicts_below: float


def room_of(root: Path, tops: Iterable[str], config: KubeletConfig) -> EvictionRoom | None:
    """Return how much memory is left until the kubelet evicts pods; None if unknown, or if it does not evict pods for lack of memory.

    :param tops: possible mount points of cgroup v2
    """
    memory = read_meminfo(root)
    total, free, available = (memory.get(name) for name in ("MemTotal", "MemFree", "MemAvailable"))
    if total is None or free is None or available is None:
        return None
    unused = min(total, free + memory.get("Inactive(file)", 0))
    rooms = [(threshold.of(total), unused, False) for threshold in (config.hard, config.soft) if threshold is not None]
    pods = next(filter(None, map(_pods, tops)), None)
    if config.hard is not None and config.holds_pods and pods is not None:
        rooms.append((config.hard.of(pods.limit), pods.limit - pods.used, True))
    if not rooms:
        return None
    threshold, counted, of_pods = min(rooms, key=lambda candidate: candidate[1] - candidate[0])
    room = counted - threshold
    return EvictionRoom(room, threshold, counted, of_pods, max(0.0, available - room))


def _pods(top: str) -> GroupLimit | None:
    return next((limit for name in _PODS if (limit := GroupLimit.of_memory(f"{top}/{name}", top)) is not None), None)


LEAVES: Final = "the guest is about to be migrated (its pod is being evicted)"

_STATE: Final = "host_memory_state"
_SHORT: Final = frozenset({"hard", "low"})
"""States of the host in which no guest may grow. The balloon plugin uses the same states."""

_CONTROL_GROUPS: Final = ("proc/1/root/sys/fs/cgroup", "sys/fs/cgroup")
"""The node's cgroups, seen from a container in the node's process namespace, and from the node."""


class NodeFacts:
    """Facts from the kubelet, cgroups and settings. Only the plugin's thread may use it."""

    def __init__(self, context: PluginContext, settings: KubeletSettings, percentage: float | None) -> None:
        self._context, self._percentage = context, percentage
        self._proc = context.root / "proc"
        self._tops = [f"{context.root / place}" for place in _CONTROL_GROUPS]
        self.kubelet = KubeletWatch(context, settings)
        self._room: EvictionRoom | None = None

    # --- collect -----------------------------------------------------------------------------------------------------------------

    def add_to(self, fields: Mapping[str, dict[str, Value]], pods: Mapping[str, LauncherPod]) -> None:
        """Add the node's facts to the guests' fields, which should contain `balloon_cur`, `balloon_max` and `vcpu_count`."""
        self.kubelet.expect({pod.pod_uid for pod in pods.values()})
        # Read this before `state`: otherwise an answer that arrives in between would be overlooked.
        awaited = {pod.pod_uid for pod in pods.values() if self.kubelet.awaits(pod.pod_uid)}
        requests = self.kubelet.state.pods
        node_kib = read_meminfo(self._context.root).get("MemTotal")
        for identity, guest_fields in fields.items():
            pod = pods.get(identity)
            if pod is None:
                continue
            request = requests.get(pod.pod_uid)
            memory = None if request is None else request.memory
            protected = protected_kib(pod.cgroup, pod.container) if memory is None else None
            most, vcpus = as_number(guest_fields.get("balloon_max")), as_number(guest_fields.get("vcpu_count"))
            size = as_number(guest_fields.get("balloon_cur")) if pod.pod_uid in awaited else None
            promise = promise_of(request, protected, most, vcpus, self._percentage, size)
            if promise is not None:
                guest_fields[PROMISE], guest_fields[PROMISED_BY] = math.ceil(promise.kib), promise.by
                if promise.request is not None:
                    guest_fields[REQUEST] = math.ceil(promise.request)
            vouched = vouched_kib(protected if memory is None else memory, pod.cgroup, f"{self._proc}/{pod.pid}", node_kib)
            if vouched is not None:
                guest_fields[GuestField.VOUCHED] = math.ceil(vouched)
            if request is not None and request.leaves:
                guest_fields[GuestField.GIVE_BACK] = LEAVES

    def host_fields(self) -> dict[str, Value]:
        """Return the host's fields about evictions."""
        self._room = room = room_of(self._context.root, self._tops, self.kubelet.state.config)
        if room is None:
            return {}
        return {EVICTS_BELOW: math.ceil(room.evicts_below), ROOM: math.floor(room.room), THRESHOLD: math.ceil(room.threshold)}

    # --- act ---------------------------------------------------------------------------------------------------------------------

    def decisions(self, snapshot: Snapshot, source: Source) -> Iterator[Decision]:
        """Decide to give guests all of their memory if they are about to be migrated, or if mom on another node has shrunk them."""
        if GuestField.BALLOON not in self._context.declarations.controls or snapshot.host.text(_STATE) in _SHORT:
            return
        taken_here = {entry.entity.id for entry in self._context.engine_state().changes if entry.control == GuestField.BALLOON}
        for guest in snapshot.listed:
            why, size, most = guest.text(GuestField.GIVE_BACK), guest.number("balloon_cur"), guest.number("balloon_max")
            if why and size is not None and most is not None and size < most and guest.id not in taken_here:
                yield Decision(guest.entity, GuestField.BALLOON, int(most), f"{printable(why, 100)}: the guest gets all its memory", source)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    def conditions(self) -> Iterator[Condition]:
        """Yield a condition if the kubelet evicts pods, or is about to."""
        room = self._room
        if room is None or room.room > _SOON_KIB:
            return
        whose = "all pods together have" if room.pods else "the kubelet counts"
        why = f"{whose} {format_kib(max(0.0, room.available))} available, and the eviction threshold is {format_kib(room.threshold)}"
        if room.room <= 0:
            yield Condition(EVICTION, "the kubelet evicts pods of this node, and guests with them", why, _EVICTION_CURE)
        else:
            yield Condition(EVICTION, "the kubelet is about to evict pods of this node", why, _EVICTION_CURE, Severity.WARNING)

    @property
    def why_unknown(self) -> str:
        """Why the kubelet does not report requests; empty if it does, or if mom does not ask."""
        error = self.kubelet.state.error
        return f"the kubelet does not report pods' requests: {printable(error, 400)}" if error else ""

    def findings(self, pods: Collection[LauncherPod]) -> Iterator[Finding]:
        """Yield findings about access to the kubelet, and its eviction thresholds."""
        if not self.kubelet.state.asked:
            self.kubelet.ask()
        state, subject = self.kubelet.state, "kubelet"
        unknown = [pod for pod in pods if pod.pod_uid not in state.pods]
        if state.error:
            yield Finding(Severity.WARNING, subject, f"{self.why_unknown}; {self._fallback()}", state.hint or _CURE)
        elif state.door:
            text = f"the kubelet reports the requests of {count_of(len(state.pods), 'pod')} through {state.door}"
            yield Finding(Severity.OK, subject, text if not unknown else f"{text}; pods of {count_of(len(unknown), 'guest')} are missing")
        config = state.config
        limits = [
            f"{format_kib(threshold.kib) if threshold.kib else f'{threshold.share:.1%} of the node'} {when}"
            for threshold, when in ((config.hard, "available (immediately)"), (config.soft, "available (after a grace period)"))
            if threshold is not None
        ]
        by = f", according to {printable(config.by, 100)}"
        if limits:
            yield Finding(Severity.OK, "eviction", f"the kubelet evicts pods when the node has less than {' or '.join(limits)}{by}")
        else:
            yield Finding(Severity.OK, "eviction", f"the kubelet does not evict pods for lack of memory{by}")

    def _fallback(self) -> str:
        if self._percentage is not None:
            return "guarantees come from control groups, or from memory_overcommit_percentage"
        return "guests whose control groups show no request have no guarantee, and keep the memory that they use"


_CURE: Final = (
    "give mom a service account that may get nodes/pods and nodes/configz, or set memory_overcommit_percentage of the kubevirt plugin"
    " to KubeVirt's memoryOvercommitPercentage"
)


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
