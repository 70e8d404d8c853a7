"""Guests of all virt-launcher pods of a node.

If a pod hangs, mom still lists its guest, but does not change the guest. The pod delays no other guest.
"""

from __future__ import annotations

import copy
import threading
import uuid as uuids
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeVar

from mom_core import Entity, Finding, Guest, GuestBusy, GuestGone, HypervisorError, Severity, Value, count_of, printable
from mom_kvm import Cures, HostSide, LookThread, ProcessStat, SeenGuest, StatisticsRecord, boot_id, pid_of, read_meminfo
from mom_plugins_kubevirt.pod_libvirt import Means, PodLibvirt, ask_all
from mom_plugins_kubevirt.pods import LAUNCHER, LauncherPod, Pods
from mom_plugins_libvirt import LibvirtHypervisor

T = TypeVar("T")

_SCAN_SECONDS: Final = 0.5
"""Pause between scans for pods. A scan takes a millisecond for each thousand processes."""

_CLOSE_SECONDS: Final = 0.12
"""Longest wait for the thread, and for closing the connections. All plugins together have 0.4 s."""

NAMESPACE: Final = "kubevirt.namespace"
NAME: Final = "kubevirt.name"
POD: Final = "kubevirt.pod"
"""Names of guests' properties with values from the node itself."""

_NO_PROCESS: Final = "the guest's process is not found in its pod"

_KEPT: Final = ("state", "pinned")
"""Properties that mom takes from a pod's libvirt. mom ignores others, such as guarantees, because the tenant could write them."""

SUBJECT: Final = "kubevirt"

_MOST_SHOWN: Final = 10

_CURES: Final = Cures(
    plugin=SUBJECT,
    balloon="remove autoattachMemBalloon: false from their VirtualMachines, and restart them",
    reporting="remove disableFreePageReporting from KubeVirt's virtualMachineOptions, and restart them",
)
"""Fixes that use KubeVirt's API. A change in a pod's libvirt would be lost with the pod."""


@dataclass(frozen=True, slots=True)
class PodGuest:
    """Guest of a pod. `own` is the same guest with the ID and name that the pod's libvirt uses."""

    guest: Guest
    own: Guest
    libvirt: PodLibvirt


class KubevirtHypervisor:
    """Guests of a node's pods. Implements `Hypervisor`, `BalloonControl` and `AgentAccess`. Thread-safe."""

    uri = "kubevirt"

    def __init__(self, pods: Pods, means: Means) -> None:
        self.node = pods
        self._means = means
        self._looking = threading.Lock()
        self._scanning = threading.Lock()
        self._lock = threading.Lock()
        self._libvirts: dict[str, PodLibvirt] = {}
        """The pods' libvirts, keyed by pod UID."""
        self._held: dict[str, PodGuest] = {}
        """Guests keyed by ID. mom replaces this, `_libvirts` and `_troubles` as a whole, so any thread may read them."""
        self._troubles: dict[str, str] = {}
        self._looked = False
        self._watcher: LookThread | None = None
        self._host_side = HostSide(self._process_of, means.context.root, means.context.monotonic)
        self._proc = means.context.root / "proc"
        self._boot = boot_id(self._proc)

    # --- pods --------------------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Start a thread that finds pods and connects to them."""
        self._watcher = LookThread("kubevirt-pods", "searching for pods", self._find, self._means.context.log)
        self._watcher.start()

    def close(self) -> None:
        """Close all connections within 0.3 s. Connections that hang stay open."""
        if self._watcher is not None:
            self._watcher.stop(_CLOSE_SECONDS)
        libvirts, self._libvirts, self._held = list(self._libvirts.values()), {}, {}
        ask_all(self._means.callers, libvirts, lambda libvirt: libvirt.hypervisor.close(), _CLOSE_SECONDS)
        self._means.relay.stop(_CLOSE_SECONDS / 6)
        if self._means.loop is not None:
            self._means.loop.stop(_CLOSE_SECONDS / 6)
        self._means.callers.close(_CLOSE_SECONDS / 6)

    def _find(self) -> float:
        self.scan()
        for libvirt in self._libvirts.values():
            libvirt.connection.reach()
        return _SCAN_SECONDS

    def scan(self) -> None:
        """Search for new and terminated pods now."""
        with self._scanning:
            if not self.node.scan():
                return
            before, libvirts = self._libvirts, dict[str, PodLibvirt]()
            for uid, pod in self.node.pods.items():
                libvirt = before.get(uid)
                if libvirt is None or (libvirt.pod.pid, libvirt.pod.started) != (pod.pid, pod.started):
                    libvirt = PodLibvirt(pod, self._means)
                libvirt.pod = pod  # the name may be known now
                libvirts[uid] = libvirt
            self._libvirts = libvirts
        gone = [libvirt for uid, libvirt in before.items() if libvirts.get(uid) is not libvirt]
        for libvirt in gone:
            self._means.callers.start(libvirt.hypervisor.close)
        if gone and self._watcher is not None:
            self._means.context.wake(f"the pod {gone[0].pod.name} has terminated" + (f" (and {len(gone) - 1} more)" if gone[1:] else ""))

    def pods_of(self, guests: Iterable[Entity]) -> dict[str, LauncherPod]:
        """Return the guests' pods, keyed by guest ID."""
        held_guests = self._held
        return {guest.id: held.libvirt.pod for guest in guests if (held := held_guests.get(guest.id)) is not None}

    def troubles(self) -> Mapping[str, str]:
        """Return why mom cannot manage pods, keyed by NAMESPACE/NAME."""
        return self._troubles

    def problems(self) -> Iterable[tuple[str, str]]:
        """Yield texts about pods that mom cannot manage, each with the fix."""
        troubles = self._troubles
        for pod, why in islice(troubles.items(), _MOST_SHOWN):
            yield f"pod {printable(pod)}: {why}", "check whether the pod has hung or is terminating; mom manages the others"
        if len(troubles) > _MOST_SHOWN:
            yield f"mom cannot manage {len(troubles) - _MOST_SHOWN} more pods", ""
        nameless, cure = self.node.why_nameless
        if nameless:
            yield nameless, cure

    # --- the guests --------------------------------------------------------------------------------------------------------------

    def guests(self) -> Sequence[Guest]:
        """Return all pods' guests. Raise `HypervisorError` if no pod's name is known."""
        with self._looking:
            if self._watcher is None or not self._looked:
                self.scan()
            if self.node.all_nameless:
                why, cure = self.node.why_nameless
                raise HypervisorError(why, hint=cure)
            libvirts = list(self._libvirts.values())
            due = sorted(
                (libvirt for libvirt in libvirts if libvirt.may_be_asked), key=lambda libvirt: libvirt.asked_at
            )  # a round might not reach all pods
            unsure = {libvirt for libvirt in due if libvirt.hangs}
            answers, pending = ask_all(self._means.callers, due, PodLibvirt.look, self._means.call_timeout, unsure)
            for libvirt in libvirts:
                if libvirt in answers:
                    libvirt.take(answers[libvirt])
                elif libvirt in pending:
                    libvirt.hung(pending[libvirt])
                elif libvirt in due:
                    libvirt.not_asked()
                else:
                    libvirt.unanswered()
            self._merge(libvirts)
            self._looked = True
            return tuple(held.guest for held in self._held.values())

    def _merge(self, libvirts: Sequence[PodLibvirt]) -> None:
        held, disputes = self._one_pod_each(libvirts)
        claims = {
            identity: f"{', '.join(pods)} claim to run the same guest: mom manages none of them" for identity, pods in disputes.items()
        }
        troubles = {_label(libvirt.pod): libvirt.trouble for libvirt in libvirts if libvirt.trouble}
        for identity, why in claims.items():
            troubles |= dict.fromkeys(disputes[identity], why)
        before, self._held, self._troubles = self._held, held, dict(troubles)
        if any(identity not in before and self._process_of("", identity) is None for identity in held):
            self.scan()  # the process may be newer than the last scan
        with self._lock:
            self._host_side.follow((identity, entry.guest.name, entry.libvirt.pod.pod_uid) for identity, entry in held.items())
        host_kib = read_meminfo(self._means.context.root).get("MemTotal")
        identified: dict[str, PodGuest] = {}
        for identity, entry in held.items():
            libvirt = entry.libvirt
            guest = self._with_incarnation(entry, before.get(identity))
            if guest is None:
                troubles[_label(libvirt.pod)] = libvirt.trouble or _NO_PROCESS
                continue
            why = claims.get(identity) or self._why_too_large(guest, entry, host_kib)
            libvirt.judge(why)
            if why:
                guest = replace(guest, blocked={"*": why})
                troubles[_label(libvirt.pod)] = why
            identified[identity] = replace(entry, guest=guest)
        self._held, self._troubles = identified, troubles

    def _one_pod_each(self, libvirts: Sequence[PodLibvirt]) -> tuple[dict[str, PodGuest], dict[str, list[str]]]:
        # If several pods claim a guest, choose the pod that had it before, or else the oldest.
        claims: dict[str, list[PodGuest]] = {}
        for libvirt in libvirts:
            for own in libvirt.listed or self._unreported(libvirt):
                guest = _as_of_pod(own, libvirt)
                claims.setdefault(guest.id, []).append(PodGuest(guest, own, libvirt))
        for identity, claimants in claims.items():
            had = self._held.get(identity)
            claimants.sort(key=lambda entry: (had is None or entry.libvirt is not had.libvirt, entry.libvirt.pod.started))
        disputes = {
            identity: [_label(entry.libvirt.pod) for entry in claimants] for identity, claimants in claims.items() if len(claimants) > 1
        }
        return {identity: claimants[0] for identity, claimants in claims.items()}, disputes

    def _with_incarnation(self, entry: PodGuest, before: PodGuest | None) -> Guest | None:
        process, pod_uid = self._host_side.properties(entry.guest.id), entry.libvirt.pod.pod_uid
        guest = replace(entry.guest, properties={**entry.guest.properties, **process})
        stat = ProcessStat.of(f"{self._proc}/{process['pid']}") if process else None
        if stat is not None:
            return replace(guest, incarnation=f"{stat.started}.{pod_uid}@{self._boot}")
        if before is not None and before.libvirt.pod.pod_uid == pod_uid:
            return replace(guest, incarnation=before.guest.incarnation, blocked={"*": _NO_PROCESS, **guest.blocked})
        return None  # without the process, the guest's incarnation would change

    def _unreported(self, libvirt: PodLibvirt) -> Sequence[Guest]:
        # An earlier mom may have shrunk the guest of a pod that has not answered yet, so list the guest.
        uuid = "" if libvirt.lies or not libvirt.trouble else self.node.guest_of(libvirt.pod.pod_uid)
        name = libvirt.pod.name.removeprefix(LAUNCHER).rpartition("-")[0]
        return [Guest(uuid, f"{libvirt.pod.namespace}_{name}", properties={"uuid": uuid, "state": "unknown"})] if uuid else ()

    def _process_of(self, name: str, identity: str) -> int | None:
        held = self._held.get(identity)
        return None if held is None else self.node.guest_process(held.libvirt.pod.pod_uid, held.own.id)

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """Return the guests' fields, keyed by guest ID and field name."""
        # The memory of the guest's process comes from the kernel, because a tenant controls libvirt's answers.
        held_guests = self._held_guests(guest.id for guest in guests)
        of_pods = {identity: held.libvirt.fields(held.own) for identity, held in held_guests.items()}
        with self._lock:  # another plugin may list the guests meanwhile
            of_hosts = self._host_side.fields({identity: fields.get("balloon_max") for identity, fields in of_pods.items()})
        return {identity: {**fields, "rss": None, **of_hosts.get(identity, {})} for identity, fields in of_pods.items()}

    def _why_too_large(self, guest: Guest, held: PodGuest, host_kib: int | None) -> str:
        pid, most = pid_of(guest), held.libvirt.claimed_kib(held.own)
        possible = 0 if pid is None else ProcessStat.mapped_kib(f"{self._proc}/{pid}", host_kib)
        if most <= possible or not possible:
            return ""
        return f"its libvirt says that the guest has up to {most} KiB, but its process and the host have room for only {possible} KiB"

    def remarks(self) -> Sequence[tuple[str, SeenGuest.Remark]]:
        """Return why mom cannot rely on guests, each with the guest's ID."""
        remarks = ((identity, held, held.libvirt.hypervisor.remarks()) for identity, held in self._held.items())
        return [(identity, remark) for identity, held, of_guests in remarks for own, remark in of_guests if own == held.own.id]

    def seen(self) -> Sequence[SeenGuest]:
        """Return the guests that `guests` listed last."""
        guests = []
        for held in self._held.values():
            for guest in map(copy.copy, held.libvirt.hypervisor.seen([held.own.entity])):
                guest.id, guest.name = held.guest.id, held.guest.name
                guests.append(guest)
        return guests

    def _held_guests(self, ids: Iterable[str]) -> dict[str, PodGuest]:
        if not self._looked:
            self.guests()
        held_guests = self._held
        return {identity: held for identity in ids if (held := held_guests.get(identity)) is not None}

    # --- balloons ----------------------------------------------------------------------------------------------------------------

    def _libvirt_of(self, guest: Entity) -> tuple[LibvirtHypervisor, Entity]:
        held = self._held_guests([guest.id]).get(guest.id)
        if held is None:
            if self.troubles():
                raise GuestBusy(f"{guest} may be in a pod that mom cannot manage now")
            raise GuestGone(f"{guest} has stopped")
        if held.libvirt.trouble:
            raise GuestBusy(f"{guest}: {held.libvirt.trouble}")
        return held.libvirt.hypervisor, held.own.entity

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Set the balloon target."""
        libvirt, own = self._libvirt_of(guest)
        libvirt.set_balloon(own, target_kib)

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """Return the guests' present sizes in KiB, keyed by ID."""
        return self._from_each([guest.id for guest in guests], lambda libvirt, own: libvirt.balloon_sizes([own]).get(own.id))

    def of(self, guests: Set[str]) -> Mapping[str, StatisticsRecord]:
        """Return the guests' balloon statistics, keyed by ID."""
        return self._from_each(guests, lambda libvirt, own: libvirt.of({own.id}).get(own.id))

    def usable_memory(self, guest: Entity) -> tuple[float, float] | None:
        """Return the time of the guest's last statistics, and its usable memory in KiB; None if unknown."""
        libvirt, own = self._libvirt_of(guest)
        return libvirt.usable_memory(own)

    def size_now(self, guest: Entity) -> float | None:
        """Return the present size in KiB; None if unknown."""
        libvirt, own = self._libvirt_of(guest)
        return libvirt.size_now(own)

    def stats_period(self, guest: Entity) -> int:
        """Return the guest's statistics period in seconds; 0: off."""
        libvirt, own = self._libvirt_of(guest)
        return libvirt.stats_period(own)

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Set the guest's statistics period in seconds; 0: off."""
        libvirt, own = self._libvirt_of(guest)
        libvirt.set_stats_period(own, seconds)

    def _from_each(self, guests: Iterable[str], read: Callable[[LibvirtHypervisor, Entity], T | None]) -> dict[str, T]:
        held_guests = self._held_guests(guests).items()
        due = {held.libvirt: (identity, held.own.entity) for identity, held in held_guests if not held.libvirt.trouble}
        answers, _ = ask_all(self._means.callers, due, lambda libvirt: read(libvirt.hypervisor, due[libvirt][1]), self._means.call_timeout)
        return {
            due[libvirt][0]: answer for libvirt, answer in answers.items() if answer is not None and not isinstance(answer, HypervisorError)
        }

    # --- agents inside guests ----------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """Return empty socket paths, keyed by guest ID and agent channel."""
        # The sockets' paths would be valid only inside the pod.
        channels_by_guest: dict[str, Mapping[str, str]] = {}
        for identity, held in self._held_guests(guest.id for guest in guests).items():
            channels = held.libvirt.hypervisor.agent_channels([held.own.entity]).get(held.own.id, {})
            if channels:
                channels_by_guest[identity] = dict.fromkeys(channels, "")
        return channels_by_guest

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Send a JSON command to the guest's agent through the pod's libvirt; return the answer."""
        libvirt, own = self._libvirt_of(guest)
        return libvirt.agent_command(own, command, timeout_seconds)


def _label(pod: LauncherPod) -> str:
    return f"{pod.namespace}/{pod.name}"


def _identity(pod: LauncherPod, uuid: str) -> str:
    # Any pod may claim any UUID, so the id includes the pod's namespace and name.
    return str(uuids.uuid5(uuids.NAMESPACE_URL, f"kubevirt:{pod.namespace}/{pod.name.rpartition('-')[0]}/{uuid}"))


def _as_of_pod(guest: Guest, libvirt: PodLibvirt) -> Guest:
    pod = libvirt.pod
    identity, name = _identity(pod, guest.id), guest.name.removeprefix(f"{pod.namespace}_")
    kept = {key: guest.properties[key] for key in _KEPT if key in guest.properties}
    names = {"name": f"{pod.namespace}/{name}", "uuid": identity, NAMESPACE: pod.namespace, NAME: name, POD: pod.name}
    blocked = {"*": libvirt.trouble} if libvirt.trouble else guest.blocked
    return replace(guest, id=identity, name=f"{pod.namespace}/{name}", properties={**kept, **names}, blocked=blocked)


def examined(hypervisor: KubevirtHypervisor, *, stats_period: float) -> Iterable[Finding]:
    """Yield findings about pods and guests."""
    guests = hypervisor.guests()
    yield Finding(
        Severity.OK, SUBJECT, f"{count_of(len(hypervisor.node.pods), 'pod')} of KubeVirt; {count_of(len(guests), 'active guest')}"
    )
    for text, cure in hypervisor.problems():
        yield Finding(Severity.WARNING, SUBJECT, text, cure)
    yield from _CURES.examine(hypervisor, guests, hypervisor.seen(), acts=True, stats_period=stats_period)
