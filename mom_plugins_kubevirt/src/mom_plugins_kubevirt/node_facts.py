"""What the node knows beside libvirt: what guests are promised, at what the kubelet evicts, and what is about to be done to guests."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from mom_core import Condition, Decision, Finding, PluginContext, Severity, Snapshot, Source, Value, as_number, format_kib, printable
from mom_kvm import GuestField, read_meminfo
from mom_plugins_kubevirt.eviction import EvictionRoom, conditions, memory_of, room_of
from mom_plugins_kubevirt.kubelet_settings import KubeletSettings
from mom_plugins_kubevirt.kubelet_watch import KubeletWatch
from mom_plugins_kubevirt.launcher_pod import LauncherPod
from mom_plugins_kubevirt.node_fields import EVICTS_BELOW, PROMISE, PROMISED_BY, REQUEST, ROOM, THRESHOLD
from mom_plugins_kubevirt.pod_groups import PodGroups
from mom_plugins_kubevirt.requests import promise_of, protected_kib, vouched_kib

LEAVES: Final = "it is about to be migrated (its pod is being evicted)"

_STATE: Final = "host_memory_state"
_SHORT: Final = frozenset({"hard", "low"})
"""How the host is off where no guest gets headroom back, as the balloon law has it."""

_CONTROL_GROUPS: Final = ("proc/1/root/sys/fs/cgroup", "sys/fs/cgroup")
"""Those of the node, as a container of its process namespace sees them, which has others of its own; and as the node itself does."""


class NodeFacts:
    """What the kubelet, control groups and settings say. Its calls come from the plugin's thread.

    :param percentage: KubeVirt's `memoryOvercommitPercentage`, as the operator says it; None: not said
    """

    def __init__(self, context: PluginContext, settings: KubeletSettings, percentage: float | None) -> None:
        self._context, self._percentage = context, percentage
        self._groups = PodGroups(context.root / "proc")
        self._tops = [f"{context.root / place}" for place in _CONTROL_GROUPS]
        self.kubelet = KubeletWatch(context, settings)
        self._room: EvictionRoom | None = None

    # --- collect -----------------------------------------------------------------------------------------------------------------

    def add_to(self, fields: Mapping[str, dict[str, Value]], pods: Mapping[str, LauncherPod]) -> None:
        """Add what is known of guests to their fields.

        :param fields: by guest id, with `balloon_cur`, `balloon_max` and `vcpu_count` where they are known
        :param pods: by guest id
        """
        self.kubelet.want({pod.pod_uid for pod in pods.values()})
        # Before `told`: or an answer that comes in between is missed.
        awaited = {pod.pod_uid for pod in pods.values() if self.kubelet.awaits(pod.pod_uid)}
        told = self.kubelet.told
        self._groups.look(fields, pods)
        node_kib = read_meminfo(self._context.root).get("MemTotal")
        for identity, known in fields.items():
            pod = pods.get(identity)
            if pod is None:
                continue
            asked, (group, found) = told.pods.get(pod.pod_uid), self._groups.of(pod, as_number(known.get("rss")))
            for name, value in found.items():
                known.setdefault(name, value)
            protected = None if asked is not None and asked.memory is not None else protected_kib(pod.cgroup, group)
            most, vcpus = as_number(known.get("balloon_max")), as_number(known.get("vcpu_count"))
            size = as_number(known.get("balloon_cur")) if pod.pod_uid in awaited else None
            promise = promise_of(asked, protected, most, vcpus, self._percentage, size)
            if promise is not None:
                known[PROMISE], known[PROMISED_BY] = math.ceil(promise.kib), promise.by
                if promise.request is not None:
                    known[REQUEST] = math.ceil(promise.request)
            request = asked.memory if asked is not None and asked.memory is not None else protected
            vouched = vouched_kib(request, pod.cgroup, f"{self._context.root}/proc/{pod.pid}", node_kib)
            if vouched is not None:
                known[GuestField.VOUCHED] = math.ceil(vouched)
            if asked is not None and asked.leaves:
                known[GuestField.GIVE_BACK] = LEAVES

    def host_fields(self) -> dict[str, Value]:
        """What the host's memory means to the kubelet; nothing where it does not evict, or that is not known."""
        memory = memory_of(self._context.root, self._tops)
        self._room = room = None if memory is None else room_of(memory, self.kubelet.told.config)
        if room is None:
            return {}
        return {EVICTS_BELOW: math.ceil(room.evicts_below), ROOM: math.floor(room.room), THRESHOLD: math.ceil(room.threshold)}

    # --- act ---------------------------------------------------------------------------------------------------------------------

    def decisions(self, snapshot: Snapshot, source: Source) -> Iterator[Decision]:
        """A guest that is to be left as it is, and that mom on another node has made smaller before it came here, gets all of its memory:
        nobody but mom resizes balloons under KubeVirt. What mom has taken on this node is given back by who took it."""
        if GuestField.BALLOON not in self._context.declarations.controls or snapshot.host.text(_STATE) in _SHORT:
            return
        taken_here = {entry.entity.id for entry in self._context.engine_state().changes if entry.control == GuestField.BALLOON}
        for guest in snapshot.listed:
            why, size, most = guest.text(GuestField.GIVE_BACK), guest.number("balloon_cur"), guest.number("balloon_max")
            if why and size is not None and most is not None and size < most and guest.id not in taken_here:
                yield Decision(guest.entity, GuestField.BALLOON, int(most), f"{printable(why, 100)}: it gets all of its memory", source)

    # --- surface -----------------------------------------------------------------------------------------------------------------

    def conditions(self) -> Iterator[Condition]:
        """That pods are evicted, whatever mom does."""
        return conditions(self._room)

    @property
    def why_unknown(self) -> str:
        """Why the kubelet does not say what pods request; empty: it does, or is not to be asked."""
        told = self.kubelet.told
        return f"the kubelet does not say what pods request: {printable(told.error, 400)}" if told.error else ""

    def findings(self, pods: Collection[LauncherPod]) -> Iterator[Finding]:
        """For `mom doctor`: how the kubelet is asked, and at what it evicts."""
        if not self.kubelet.told.asked:
            self.kubelet.ask()
        told, subject = self.kubelet.told, "kubelet"
        unknown = [pod for pod in pods if pod.pod_uid not in told.pods]
        if told.error:
            yield Finding(Severity.WARNING, subject, f"{self.why_unknown}; {self._else()}", told.hint or _CURE)
        elif told.door:
            text = f"it says by {told.door} what {len(told.pods)} pods request"
            yield Finding(Severity.OK, subject, text if not unknown else f"{text}; {len(unknown)} guests' pods are not among them")
        config = told.config
        limits = [
            f"{format_kib(one.kib) if one.kib else f'{one.share:.1%} of the node'} {when}"
            for one, when in ((config.hard, "available (at once)"), (config.soft, "available (after a while)"))
            if one is not None
        ]
        by = f", by {printable(config.by, 100)}" if config.by else ", which is its default: no configuration of it was found"
        if limits:
            yield Finding(Severity.OK, "eviction", f"the kubelet evicts pods with less than {' or '.join(limits)}{by}")
        else:
            yield Finding(Severity.OK, "eviction", f"the kubelet evicts no pods for want of memory{by}")

    def _else(self) -> str:
        if self._percentage is not None:
            return "guests are promised what their control groups say, or memory_overcommit_percentage"
        return "where control groups do not say it either, guests are promised nothing, and keep what they use"


_CURE: Final = (
    "give mom a service account that may get nodes/pods and nodes/configz, or say what KubeVirt's memoryOvercommitPercentage is:"
    " memory_overcommit_percentage of the plugin kubevirt"
)
