"""Facts from the node about guarantees, evictions and migrations of guests.

The kubelet counts active page cache as used (pkg/kubelet/eviction/helpers.go, `memoryAvailable`). So it may evict pods although
`MemAvailable` is large.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
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
from mom_kvm import GroupLimit, GuestField, read_meminfo
from mom_plugins_kubevirt.kubelet_config import KubeletConfig
from mom_plugins_kubevirt.kubelet_watch import KubeletSettings, KubeletWatch
from mom_plugins_kubevirt.node_fields import EVICTS_BELOW, PROMISE, PROMISED_BY, REQUEST, ROOM, THRESHOLD
from mom_plugins_kubevirt.pods import LauncherPod
from mom_plugins_kubevirt.requests import promise_of, protected_kib, vouched_kib

EVICTION: Final = "eviction"

_SOON_KIB: Final = 64 << 10
"""mom begins to warn when this much is left until an eviction. A guest can use it up in a fifth of a second."""

_PODS: Final = ("kubepods.slice", "kubepods")
"""Cgroup of all pods, with the kubelet's systemd driver and without it."""

_EVICTION_CURE: Final = (
    "move guests away (`virtctl migrate`, or cordon and drain the node), start no more guests, or reduce memory.available of the kubelet's"
    " evictionHard and evictionSoft"
)


class KubeletMemory(NamedTuple):
    """Memory in KiB as the kubelet counts it, and the kernel's available memory.

    `allocatable` and `pods_available` are None if pods have no common limit.
    """

    total: float
    available: float
    kernel_available: float
    allocatable: float | None = None
    pods_available: float | None = None


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


def memory_of(root: Path, tops: Iterable[str]) -> KubeletMemory | None:
    """Return the memory as the kubelet counts it; None if unreadable.

    :param tops: possible mount points of cgroup v2
    """
    memory = read_meminfo(root)
    total, free, available = (memory.get(name) for name in ("MemTotal", "MemFree", "MemAvailable"))
    if total is None or free is None or available is None:
        return None
    working_set = max(0, total - free - memory.get("Inactive(file)", 0))
    pods = next(filter(None, map(_pods, tops)), None)
    return KubeletMemory(
        total,
        max(0, total - working_set),
        available,
        None if pods is None else pods.limit,
        None if pods is None else pods.limit - pods.used,
    )


def _pods(top: str) -> GroupLimit | None:
    return next((limit for name in _PODS if (limit := GroupLimit.of_memory(f"{top}/{name}", top)) is not None), None)


def room_of(memory: KubeletMemory, config: KubeletConfig) -> EvictionRoom | None:
    """Return how much memory is left until the kubelet evicts pods; None if it does not evict pods for lack of memory."""
    rooms: list[EvictionRoom] = []

    def count(threshold: float, available: float, *, pods: bool) -> None:
        room = available - threshold
        rooms.append(EvictionRoom(room, threshold, available, pods, max(0.0, memory.kernel_available - room)))

    for threshold in (config.hard, config.soft):
        if threshold is not None:
            count(threshold.of(memory.total), memory.available, pods=False)
    if config.hard is not None and config.holds_pods and memory.allocatable is not None and memory.pods_available is not None:
        count(config.hard.of(memory.allocatable), memory.pods_available, pods=True)
    return min(rooms, key=lambda candidate: candidate.room, default=None)


def conditions(room: EvictionRoom | None) -> Iterator[Condition]:
    """Yield a condition if the kubelet evicts pods, or is about to."""
    if room is None or room.room > _SOON_KIB:
        return
    whose = "all pods together have" if room.pods else "the kubelet counts"
    why = f"{whose} {format_kib(max(0.0, room.available))} available, and the eviction threshold is {format_kib(room.threshold)}"
    if room.room <= 0:
        yield Condition(EVICTION, "the kubelet evicts pods of this node, and guests with them", why, _EVICTION_CURE)
    else:
        yield Condition(EVICTION, "the kubelet is about to evict pods of this node", why, _EVICTION_CURE, Severity.WARNING)


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
        memory = memory_of(self._context.root, self._tops)
        self._room = room = None if memory is None else room_of(memory, self.kubelet.state.config)
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
        """Yield a condition during an eviction, or if one is near."""
        return conditions(self._room)

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
        by = (
            f", according to {printable(config.by, 100)}"
            if config.by
            else " (the kubelet's default, because mom found no configuration of it)"
        )
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
