"""The guests of all virt-launcher pods of a node as those of one hypervisor, though each has a libvirt of its own.

A round asks all of them at once. One that hangs, or answers nonsense, keeps its guest in the list for as long as its pod is there, blocked
and with what is known of it; it costs the others nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from mom_core import Entity, Guest, GuestBusy, GuestGone, HypervisorError, Value
from mom_guests import HostSide, Record, SeenGuest, largest_kib
from mom_libvirt import LibvirtHypervisor
from mom_plugins_kubevirt.launcher_pod import LauncherPod
from mom_plugins_kubevirt.pod_libvirt import Means, PodLibvirt
from mom_plugins_kubevirt.pods import LAUNCHER, Pods
from mom_plugins_kubevirt.rounds import ask_all
from mom_toolkit import ProcessStat, boot_id, pid_of, read_meminfo

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

_KEPT: Final = ("name", "uuid", "state", "pinned")
"""Of the properties that a pod's libvirt gives its guest: not its promises, which the tenant would make himself."""


@dataclass(frozen=True, slots=True)
class PodGuest:
    """A guest, and the pod that it is in."""

    guest: Guest
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
        """Of two pods that claim one guest, the one that had it first keeps it."""
        held: dict[str, PodGuest] = {}
        troubles = {_called(one.pod): one.trouble for one in libvirts if one.trouble}
        claims = [(guest, libvirt) for libvirt in libvirts for guest in libvirt.listed or self._not_told(libvirt)]
        claims.sort(key=lambda claim: not self._holds(claim[1], claim[0]))
        for guest, libvirt in claims:
            if guest.id in held:
                other = held[guest.id].libvirt.pod
                troubles[_called(libvirt.pod)] = f"it claims the UUID of the guest in pod {_called(other)}"
                continue
            held[guest.id] = PodGuest(_as_of_pod(guest, libvirt), libvirt)
        with self._lock:
            before, self._held, self._troubles = self._held, held, troubles
        if any(uuid not in before and self._process_of("", uuid) is None for uuid in held):
            self.scan()  # it may have been started since the last look for processes
        with self._lock:
            self._host_side.follow((uuid, one.guest.name, one.libvirt.pod.pod_uid) for uuid, one in held.items())
        host_kib = read_meminfo(self._means.context.root).get("MemTotal")
        for uuid, one in list(held.items()):
            process = self._host_side.properties(uuid)
            guest = replace(one.guest, properties={**one.guest.properties, **process})
            stat = ProcessStat.of(f"{self._proc}/{process['pid']}") if process else None
            known = before.get(uuid)
            if stat is not None:
                guest = replace(guest, incarnation=f"{stat.started}.{one.libvirt.pod.pod_uid}@{self._boot}")
            elif known is not None and known.libvirt.pod.pod_uid == one.libvirt.pod.pod_uid:
                guest = replace(guest, incarnation=known.guest.incarnation, blocked={"*": _NO_PROCESS, **guest.blocked})
            else:  # which start of it this is cannot be said, and by libvirt's count it would be another one
                troubles[_called(one.libvirt.pod)] = one.libvirt.trouble or _NO_PROCESS
                with self._lock:
                    del held[uuid]
                continue
            why = self._too_large(guest, one.libvirt, host_kib)
            one.libvirt.judge(why)
            if why:
                guest = replace(guest, blocked={"*": why})
                troubles[_called(one.libvirt.pod)] = why
            held[uuid] = PodGuest(guest, one.libvirt)

    def _not_told(self, libvirt: PodLibvirt) -> Sequence[Guest]:
        """The guest of a pod whose libvirt has not answered yet, by the pod's process: what an earlier mom has changed of it is still to be
        put back, so it must not seem to be gone."""
        uuid = "" if libvirt.lies or not libvirt.trouble else self.node.guest_of(libvirt.pod.pod_uid)
        name = libvirt.pod.name.removeprefix(LAUNCHER).rpartition("-")[0]
        return [Guest(uuid, f"{libvirt.pod.namespace}_{name}", properties={"uuid": uuid, "state": "unknown"})] if uuid else ()

    def _holds(self, libvirt: PodLibvirt, guest: Guest) -> bool:
        held = self._held.get(guest.id)
        return held is not None and held.libvirt is libvirt

    def _process_of(self, name: str, uuid: str) -> int | None:
        held = self._held.get(uuid)
        return None if held is None else self.node.guest_process(held.libvirt.pod.pod_uid, uuid)

    def fields(self, guests: Sequence[Guest]) -> dict[str, dict[str, Value]]:
        """The fields of these guests as of the last call of `guests`, by guest id. What a process holds is by the kernel's word."""
        there = self._there(guest.id for guest in guests)
        with self._lock:  # another plugin's call may list the guests meanwhile
            of_hosts = self._host_side.fields(there)
        return {uuid: {**held.libvirt.fields(held.guest), "rss": None, **of_hosts.get(uuid, {})} for uuid, held in there.items()}

    def _too_large(self, guest: Guest, libvirt: PodLibvirt, host_kib: int | None) -> str:
        """Return why its size cannot be true: all memory that a guest may have is mapped by its process, and comes from the host. Empty: it
        can, or is not known yet."""
        pid, most = pid_of(guest), libvirt.claimed_kib(guest)
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
        said = {uuid: ask(held.libvirt.hypervisor) for uuid, held in self._current().items()}
        return {uuid: of_guests[uuid] for uuid, of_guests in said.items() if uuid in of_guests}

    def seen(self) -> Sequence[SeenGuest]:
        """All guests as of the last look, as their libvirts described them."""
        return [seen for held in self._current().values() for seen in held.libvirt.hypervisor.seen([held.guest.entity])]

    def _current(self) -> dict[str, PodGuest]:
        with self._lock:
            return dict(self._held)

    def _there(self, ids: Iterable[str]) -> dict[str, PodGuest]:
        if not self._looked:
            self.guests()
        with self._lock:
            return {uuid: held for uuid in ids if (held := self._held.get(uuid)) is not None}

    # --- balloons ----------------------------------------------------------------------------------------------------------------

    def _libvirt_of(self, guest: Entity) -> PodLibvirt:
        """Raises `GuestGone`, and `GuestBusy` where that cannot be said, as some pods cannot be managed."""
        held = self._there([guest.id]).get(guest.id)
        if held is None:
            if self.troubles():
                raise GuestBusy(f"{guest}: it may be in a pod that cannot be managed now")
            raise GuestGone(f"{guest} is not there any more")
        if held.libvirt.trouble:
            raise GuestBusy(f"{guest}: {held.libvirt.trouble}")
        return held.libvirt

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Ask the guest to go to that size; returns when QEMU has taken the request, not when the guest has followed."""
        self._libvirt_of(guest).hypervisor.set_balloon(guest, target_kib)

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """The sizes of these guests now in KiB, by guest id, in one round. A guest that is gone, unknown or silent is absent."""
        entities = {guest.id: guest for guest in guests}
        return self._from_each(entities, lambda hypervisor, ids: hypervisor.balloon_sizes([entities[uuid] for uuid in ids]))

    def of(self, guests: Set[str]) -> Mapping[str, Record]:
        """The balloon part of these guests' records, by guest id, in one round; without those that are gone or silent."""
        current = self._current()
        entities = {uuid: current[uuid].guest.entity for uuid in guests if uuid in current}
        return self._from_each(entities, lambda hypervisor, ids: hypervisor.of(ids))

    def usable_memory(self, guest: Entity) -> tuple[float, float] | None:
        """See `SeenGuests`."""
        return self._libvirt_of(guest).hypervisor.usable_memory(guest)

    def size_now(self, guest: Entity) -> float | None:
        """See `SeenGuests`."""
        return self._libvirt_of(guest).hypervisor.size_now(guest)

    def stats_period(self, guest: Entity) -> int:
        """By libvirt's word now: every how many seconds it reads the guest's statistics, or 0."""
        return self._libvirt_of(guest).hypervisor.stats_period(guest)

    def set_stats_period(self, guest: Entity, seconds: int) -> None:
        """Have the guest's statistics read every `seconds` from now on, 0 for no longer."""
        self._libvirt_of(guest).hypervisor.set_stats_period(guest, seconds)

    def _from_each(self, guests: Mapping[str, Entity], ask: Callable[[LibvirtHypervisor, Set[str]], Mapping[str, T]]) -> dict[str, T]:
        """What the libvirts of these guests, by id, answer about them; nothing of those that cannot be asked now."""
        wanted: dict[PodLibvirt, set[str]] = {}
        for uuid, held in self._there(guests).items():
            if not held.libvirt.trouble:
                wanted.setdefault(held.libvirt, set()).add(uuid)
        answers, _ = ask_all(self._means.callers, wanted, lambda one: ask(one.hypervisor, wanted[one]), self._means.call_timeout)
        return {uuid: said for answer in answers.values() if isinstance(answer, Mapping) for uuid, said in answer.items()}

    # --- agents inside guests ----------------------------------------------------------------------------------------------------

    def agent_channels(self, guests: Sequence[Entity]) -> Mapping[str, Mapping[str, str]]:
        """The agent channels of these guests. None has a path: it would be one in the pod, and chosen there."""
        found: dict[str, Mapping[str, str]] = {}
        for uuid, held in self._there(guest.id for guest in guests).items():
            channels = held.libvirt.hypervisor.agent_channels([held.guest.entity]).get(uuid, {})
            if channels:
                found[uuid] = dict.fromkeys(channels, "")
        return found

    def agent_command(self, guest: Entity, command: str, timeout_seconds: float) -> str:
        """Have the pod's libvirt pass this JSON text to the guest's agent; see `LibvirtHypervisor`."""
        return self._libvirt_of(guest).hypervisor.agent_command(guest, command, timeout_seconds)


def _called(pod: LauncherPod) -> str:
    return f"{pod.namespace}/{pod.name}"


def _as_of_pod(guest: Guest, libvirt: PodLibvirt) -> Guest:
    """The guest by its names in Kubernetes."""
    pod = libvirt.pod
    name = guest.name.removeprefix(f"{pod.namespace}_")
    kept = {key: guest.properties[key] for key in _KEPT if key in guest.properties}
    return replace(
        guest,
        name=f"{pod.namespace}/{name}",
        properties={**kept, "name": f"{pod.namespace}/{name}", NAMESPACE: pod.namespace, NAME: name, POD: pod.name},
        blocked={"*": libvirt.trouble} if libvirt.trouble else guest.blocked,
    )
