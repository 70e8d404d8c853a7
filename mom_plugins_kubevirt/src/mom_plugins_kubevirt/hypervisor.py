"""The guests of all virt-launcher pods of a node as those of one hypervisor, though each has a libvirt of its own.

A round asks all of them at once. One that hangs, or answers nonsense, keeps its guest in the list for as long as its pod is there, blocked
and with what is known of it; it costs the others nothing.
"""

from __future__ import annotations

import copy
import threading
import uuid as uuids
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from mom_core import Entity, Guest, GuestBusy, GuestGone, HypervisorError, Value
from mom_kvm import HostSide, ProcessStat, Record, SeenGuest, boot_id, largest_kib, pid_of, read_meminfo
from mom_plugins_kubevirt.launcher_pod import LauncherPod
from mom_plugins_kubevirt.pod_libvirt import Means, PodLibvirt
from mom_plugins_kubevirt.pods import LAUNCHER, Pods
from mom_plugins_kubevirt.rounds import ask_all
from mom_plugins_libvirt import LibvirtHypervisor

T = TypeVar("T")

_SCAN_SECONDS: Final = 0.25
"""How often it is looked for new pods. It takes a millisecond for each thousand processes of the node."""

_CLOSE_SECONDS: Final = 0.3
"""How long the connections may take to end, all together: a plugin has 0.4 s."""

NAMESPACE: Final = "kubevirt.namespace"
NAME: Final = "kubevirt.name"
POD: Final = "kubevirt.pod"
"""Properties of guests, by the node's own word."""

_NO_PROCESS: Final = "the guest's process is not found in its pod"

_KEPT: Final = ("state", "pinned")
"""Of the properties that a pod's libvirt gives its guest: not its promises, which the tenant would make himself."""


@dataclass(frozen=True, slots=True)
class PodGuest:
    """A guest, the same by its libvirt's id and name, and the pod that it is in."""

    guest: Guest
    own: Guest
    libvirt: PodLibvirt


class KubevirtHypervisor:
    """Implements `Hypervisor`, `BalloonControl` and `AgentAccess`. Safe to be used from several threads.

    Setters raise what those of `LibvirtHypervisor` do.

    :param pods: finds the pods
    :param means: what the connections share
    """

    uri = "kubevirt"

    def __init__(self, pods: Pods, means: Means) -> None:
        self.node = pods
        """What is found of the node's pods."""
        self._means = means
        self._looking = threading.Lock()
        self._scanning = threading.Lock()
        self._lock = threading.Lock()
        self._libvirts: dict[str, PodLibvirt] = {}
        """By pod uid; replaced with the lock held."""
        self._held: dict[str, PodGuest] = {}
        """By guest id; as above."""
        self._troubles: dict[str, str] = {}
        self._looked = False
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self._host_side = HostSide(self._process_of, means.context.root, means.context.monotonic)
        self._proc = means.context.root / "proc"
        self._boot = boot_id(self._proc)

    # --- pods --------------------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look for new pods from now on, in a thread, and connect to each as soon as it listens."""
        self._watcher = threading.Thread(target=self._watch, name="kubevirt-pods", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Let all connections go, in well under half a second; those that hang are left behind."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join(_CLOSE_SECONDS)
        with self._lock:
            libvirts, self._libvirts, self._held = list(self._libvirts.values()), {}, {}
        ask_all(self._means.callers, libvirts, lambda one: one.hypervisor.close(), _CLOSE_SECONDS)
        self._means.relay.stop(_CLOSE_SECONDS / 6)
        if self._means.loop is not None:
            self._means.loop.stop(_CLOSE_SECONDS / 6)
        self._means.callers.close(_CLOSE_SECONDS / 6)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self.scan()
                for libvirt in self._all():
                    libvirt.connection.reach()
            except Exception:  # containment: no pod must end the search for the others
                self._means.context.log.exception("looking for pods failed")
            self._stopping.wait(_SCAN_SECONDS)

    def scan(self) -> None:
        """Look for pods now."""
        with self._scanning:
            if not self.node.scan():
                return
            found, gone = self.node.pods, []
            with self._lock:
                before, self._libvirts = self._libvirts, {}
                for uid, pod in found.items():
                    known = before.pop(uid, None)
                    if known is not None and (known.pod.pid, known.pod.started) == (pod.pid, pod.started):
                        known.pod = pod  # its name may be known now
                        self._libvirts[uid] = known
                        continue
                    if known is not None:
                        gone.append(known)
                    self._libvirts[uid] = PodLibvirt(pod, self._means)
                gone.extend(before.values())
        for libvirt in gone:
            self._means.callers.start(libvirt.hypervisor.close)
        if gone and self._watcher is not None:
            self._means.context.wake(f"the pod {gone[0].pod.name} has ended" + (f" (and {len(gone) - 1} more)" if gone[1:] else ""))

    def _all(self) -> list[PodLibvirt]:
        with self._lock:
            return list(self._libvirts.values())

    def pods_of(self, guests: Iterable[Entity]) -> dict[str, LauncherPod]:
        """The pods of these guests as of the last call of `guests`, by guest id."""
        with self._lock:
            return {guest.id: held.libvirt.pod for guest in guests if (held := self._held.get(guest.id)) is not None}

    def troubles(self) -> Mapping[str, str]:
        """The pods that cannot be managed now, by what people call them, and why."""
        with self._lock:
            return dict(self._troubles)

    # --- what there is -----------------------------------------------------------------------------------------------------------

    def guests(self) -> Sequence[Guest]:
        """The guests of all pods by one round of questions, at which what `fields` hands out is read. Raises `HypervisorError` where the
        node does not tell of any pod whose it is: their guests are not to be taken for gone, and what was changed of them for forgotten."""
        with self._looking:
            if self._watcher is None or not self._looked:
                self.scan()
            if self.node.all_nameless:
                why, cure = self.node.why_nameless
                raise HypervisorError(why, hint=cure)
            libvirts = self._all()
            due = sorted((one for one in libvirts if one.may_be_asked), key=lambda one: one.asked_at)  # where not all have their turn
            unsure = {one for one in due if one.hangs}
            answers, open_ = ask_all(self._means.callers, due, PodLibvirt.look, self._means.call_timeout, unsure)
            for libvirt in libvirts:
                if libvirt in answers:
                    libvirt.take(answers[libvirt])
                elif libvirt in open_:
                    libvirt.hung(open_[libvirt])
                elif libvirt in due:
                    libvirt.not_asked()
                else:
                    libvirt.unanswered()
            self._merge(libvirts)
            self._looked = True
            with self._lock:
                return tuple(held.guest for held in self._held.values())

    def _merge(self, libvirts: Sequence[PodLibvirt]) -> None:
        """Of pods that claim one guest, none is managed: which of them tells the truth cannot be said. The one that had it, or else the
        oldest, stays in the list, so that what was changed of the guest is not forgotten."""
        troubles = {_called(one.pod): one.trouble for one in libvirts if one.trouble}
        claims: dict[str, list[PodGuest]] = {}
        for libvirt in libvirts:
            for own in libvirt.listed or self._not_told(libvirt):
                guest = _as_of_pod(own, libvirt)
                claims.setdefault(guest.id, []).append(PodGuest(guest, own, libvirt))
        held: dict[str, PodGuest] = {}
        disputed: dict[str, str] = {}
        for identity, claimants in claims.items():
            had = self._held.get(identity)
            claimants.sort(key=lambda one: (had is None or one.libvirt is not had.libvirt, one.libvirt.pod.started))
            held[identity] = claimants[0]
            pods = [_called(one.libvirt.pod) for one in claimants]
            if len(pods) > 1:
                disputed[identity] = f"{', '.join(pods)} claim to be one guest: none of them is managed"
                troubles |= dict.fromkeys(pods, disputed[identity])
        with self._lock:
            before, self._held, self._troubles = self._held, held, troubles
        if any(identity not in before and self._process_of("", identity) is None for identity in held):
            self.scan()  # it may have been started since the last look for processes
        with self._lock:
            self._host_side.follow((identity, one.guest.name, one.libvirt.pod.pod_uid) for identity, one in held.items())
        host_kib = read_meminfo(self._means.context.root).get("MemTotal")
        for identity, one in list(held.items()):
            process = self._host_side.properties(identity)
            guest = replace(one.guest, properties={**one.guest.properties, **process})
            stat = ProcessStat.of(f"{self._proc}/{process['pid']}") if process else None
            known = before.get(identity)
            if stat is not None:
                guest = replace(guest, incarnation=f"{stat.started}.{one.libvirt.pod.pod_uid}@{self._boot}")
            elif known is not None and known.libvirt.pod.pod_uid == one.libvirt.pod.pod_uid:
                guest = replace(guest, incarnation=known.guest.incarnation, blocked={"*": _NO_PROCESS, **guest.blocked})
            else:  # which start of it this is cannot be said, and by libvirt's count it would be another one
                troubles[_called(one.libvirt.pod)] = one.libvirt.trouble or _NO_PROCESS
                with self._lock:
                    del held[identity]
                continue
            why = disputed.get(identity) or self._too_large(guest, one, host_kib)
            one.libvirt.judge(why)
            if why:
                guest = replace(guest, blocked={"*": why})
                troubles[_called(one.libvirt.pod)] = why
            held[identity] = replace(one, guest=guest)

    def _not_told(self, libvirt: PodLibvirt) -> Sequence[Guest]:
        """The guest of a pod whose libvirt has not answered yet, by the pod's process: what an earlier mom has changed of it is still to be
        put back, so it must not seem to be gone."""
        uuid = "" if libvirt.lies or not libvirt.trouble else self.node.guest_of(libvirt.pod.pod_uid)
        name = libvirt.pod.name.removeprefix(LAUNCHER).rpartition("-")[0]
        return [Guest(uuid, f"{libvirt.pod.namespace}_{name}", properties={"uuid": uuid, "state": "unknown"})] if uuid else ()

    def _process_of(self, name: str, identity: str) -> int | None:
        held = self._held.get(identity)
        return None if held is None else self.node.guest_process(held.libvirt.pod.pod_uid, held.own.id)

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """The fields of these guests as of the last call of `guests`, by guest id. What a process holds is by the kernel's word."""
        there = self._there(guest.id for guest in guests)
        with self._lock:  # another plugin's call may list the guests meanwhile
            of_hosts = self._host_side.fields(there)
        return {identity: {**held.libvirt.fields(held.own), "rss": None, **of_hosts.get(identity, {})} for identity, held in there.items()}

    def _too_large(self, guest: Guest, held: PodGuest, host_kib: int | None) -> str:
        """Return why its size cannot be true: all memory that a guest may have is mapped by its process, and comes from the host. Empty: it
        can, or is not known yet."""
        pid, most = pid_of(guest), held.libvirt.claimed_kib(held.own)
        possible = 0 if pid is None else largest_kib(f"{self._proc}/{pid}", host_kib)
        if most <= possible or not possible:
            return ""
        return f"its libvirt says that the guest has up to {most} KiB, and its process and the host have room for {possible} KiB"

    @property
    def huge_pages(self) -> str:
        """See `SeenGuests`."""
        return self._host_side.huge_pages

    def silent(self) -> Mapping[str, str]:
        """The guests whose statistics ought to come, and have not for long, by id: in what way."""
        return self._said(LibvirtHypervisor.silent)

    def impossible(self) -> Mapping[str, Sequence[str]]:
        """The guests whose last statistics cannot be true, by id: the names of the fields."""
        return self._said(LibvirtHypervisor.impossible)

    def garbled(self) -> Mapping[str, str]:
        """The guests whose descriptions cannot be understood, by id: what about them."""
        return self._said(LibvirtHypervisor.garbled)

    def _said(self, ask: Callable[[LibvirtHypervisor], Mapping[str, T]]) -> dict[str, T]:
        """What each pod's libvirt says of its own guest, by guest id; nothing where it says nothing of it."""
        said = {identity: (ask(held.libvirt.hypervisor), held.own.id) for identity, held in self._current().items()}
        return {identity: of_guests[own] for identity, (of_guests, own) in said.items() if own in of_guests}

    def seen(self) -> Sequence[SeenGuest]:
        """All guests as of the last look, as their libvirts described them, by mom's ids and names."""
        found = []
        for held in self._current().values():
            for seen in map(copy.copy, held.libvirt.hypervisor.seen([held.own.entity])):
                seen.id, seen.name = held.guest.id, held.guest.name
                found.append(seen)
        return found

    def _current(self) -> dict[str, PodGuest]:
        with self._lock:
            return dict(self._held)

    def _there(self, ids: Iterable[str]) -> dict[str, PodGuest]:
        if not self._looked:
            self.guests()
        with self._lock:
            return {identity: held for identity in ids if (held := self._held.get(identity)) is not None}

    # --- balloons ----------------------------------------------------------------------------------------------------------------

    def _asked(self, guest: Entity) -> tuple[LibvirtHypervisor, Entity]:
        """Return the guest's libvirt, and what that calls the guest. Raises `GuestGone`, and `GuestBusy` where that cannot be said, as some
        pods cannot be managed."""
        held = self._there([guest.id]).get(guest.id)
        if held is None:
            if self.troubles():
                raise GuestBusy(f"{guest}: it may be in a pod that cannot be managed now")
            raise GuestGone(f"{guest} is not there any more")
        if held.libvirt.trouble:
            raise GuestBusy(f"{guest}: {held.libvirt.trouble}")
        return held.libvirt.hypervisor, held.own.entity

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask the guest to go to that size; returns when QEMU has taken the request, not when the guest has followed."""
        libvirt, own = self._asked(guest)
        libvirt.set_balloon(own, target_kib)

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """The sizes of these guests now in KiB, by guest id, in one round. A guest that is gone, unknown or silent is absent."""
        return self._from_each([guest.id for guest in guests], lambda libvirt, own: libvirt.balloon_sizes([own]).get(own.id))

    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """The balloon part of these guests' records, by guest id, in one round; without those that are gone or silent."""
        return self._from_each(guests, lambda libvirt, own: libvirt.of({own.id}).get(own.id))

    def usable_memory(self, guest: Entity) -> tuple[float, float] | None:
        """See `SeenGuests`."""
        libvirt, own = self._asked(guest)
        return libvirt.usable_memory(own)

    def size_now(self, guest: Entity) -> float | None:
        """See `SeenGuests`."""
        libvirt, own = self._asked(guest)
        return libvirt.size_now(own)

    def stats_period(self, guest: Entity) -> int:
        """By libvirt's word now: every how many seconds it reads the guest's statistics, or 0."""
        libvirt, own = self._asked(guest)
        return libvirt.stats_period(own)

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Have the guest's statistics read every `seconds` from now on, 0 for no longer."""
        libvirt, own = self._asked(guest)
        libvirt.set_stats_period(own, seconds)

    def _from_each(self, guests: Iterable[str], ask: Callable[[LibvirtHypervisor, Entity], T | None]) -> dict[str, T]:
        """Return what the libvirts of these guests answer about them, by guest id; nothing of those that cannot be asked now."""
        there = self._there(guests).items()
        wanted = {held.libvirt: (identity, held.own.entity) for identity, held in there if not held.libvirt.trouble}
        answers, _ = ask_all(self._means.callers, wanted, lambda one: ask(one.hypervisor, wanted[one][1]), self._means.call_timeout)
        return {wanted[one][0]: said for one, said in answers.items() if said is not None and not isinstance(said, HypervisorError)}

    # --- agents inside guests ----------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """The agent channels of these guests. None has a path: it would be one in the pod, and chosen there."""
        found: dict[str, Mapping[str, str]] = {}
        for identity, held in self._there(guest.id for guest in guests).items():
            channels = held.libvirt.hypervisor.agent_channels([held.own.entity]).get(held.own.id, {})
            if channels:
                found[identity] = dict.fromkeys(channels, "")
        return found

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Have the pod's libvirt pass this JSON text to the guest's agent; see `LibvirtHypervisor`."""
        libvirt, own = self._asked(guest)
        return libvirt.agent_command(own, command, timeout_seconds)


def _called(pod: LauncherPod) -> str:
    return f"{pod.namespace}/{pod.name}"


def _identity(pod: LauncherPod, uuid: str) -> str:
    """Return the id of a guest, the same after each start of its virtual machine.

    Any pod may claim any UUID, so the pod's namespace and name count, too, which are by the node's word. The last part of the name is
    another one in each pod.
    """
    return str(uuids.uuid5(uuids.NAMESPACE_URL, f"kubevirt:{pod.namespace}/{pod.name.rpartition('-')[0]}/{uuid}"))


def _as_of_pod(guest: Guest, libvirt: PodLibvirt) -> Guest:
    """The guest by its names in Kubernetes."""
    pod = libvirt.pod
    identity, name = _identity(pod, guest.id), guest.name.removeprefix(f"{pod.namespace}_")
    kept = {key: guest.properties[key] for key in _KEPT if key in guest.properties}
    known = {"name": f"{pod.namespace}/{name}", "uuid": identity, NAMESPACE: pod.namespace, NAME: name, POD: pod.name}
    blocked = {"*": libvirt.trouble} if libvirt.trouble else guest.blocked
    return replace(guest, id=identity, name=f"{pod.namespace}/{name}", properties={**kept, **known}, blocked=blocked)
