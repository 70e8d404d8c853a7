"""Which virt-launcher pods run on this node, by /proc alone: no API server, no credentials.

A pod is known by the uid in the name of its control group, which the kernel tells of each process and no container can change. Everything
else in a pod belongs to its tenant: any process may call itself a libvirt daemon. One that is none costs its own pod a guest.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mom_kvm import ProcessStat, cgroups_of, read_kernel_file, times_of
from mom_plugins_kubevirt.launcher_pod import RIGHTS, LauncherPod

_DAEMONS: Final[Mapping[bytes, str]] = {b"virtqemud": "var/run/libvirt/virtqemud-sock", b"libvirtd": "var/run/libvirt/libvirt-sock"}
"""The names of the processes that serve libvirt in a pod, newer ones first, and where they listen there."""

_QEMU: Final = b"qemu"
"""How the names of all QEMU processes begin: qemu-kvm, qemu-system-x86."""

_POD: Final = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?:\.slice)?")
"""A pod's control group: `pod<uid>` of kubelet's cgroupfs driver, `…-pod<uid>.slice` of its systemd driver, with underscores."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""As libvirt writes it."""

_YOUNG_SECONDS: Final = 5.0
"""A process is looked at again and again for so long: it is forked first, and becomes what it is to be when it executes a program."""

_MOST_LOOKED_AT: Final = 3000
"""So many processes are looked at in one scan at most, 30 ms; the others in the next."""

_IN_TURN: Final = 20
"""Of so many known daemons it is looked in each scan whether they still run; an end that leaves nothing in /proc is seen at once."""

MOST_PODS: Final = 1000
"""Twice as many as any node is allowed to have."""

_MOST_PROCESSES: Final = 16
"""So many QEMU processes of one pod are looked through for its guest. It has one; while that probes QEMU, two."""

_LOGS_AGAIN_SECONDS: Final = 1.0
"""Between two looks for the name of a pod that has no folder of logs yet."""

_NODE: Final = ("proc/1/root", "")
"""The node's root, as a container of its process namespace sees it, and as the node itself does."""

_CGROUPS: Final = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
LAUNCHER: Final = "virt-launcher-"
"""How the names of all pods begin in which KubeVirt runs guests."""

_LOG_FOLDER: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})_([a-z0-9][a-z0-9.-]{0,252})_([0-9a-f-]{36})")
"""By kubelet: NAMESPACE_POD_UID, none of which has an underscore."""

_COMMAND_BYTES: Final = 256 << 10
_DEEPEST: Final = 3
"""Folders between the root of the control groups and that of a pod: kubepods.slice, and one for its class of service; one more where a
node is itself a container."""


@dataclass(slots=True)
class _Seen:
    """What was found in one pod so far."""

    daemons: dict[int, LauncherPod] = field(default_factory=dict)
    """By process id, the oldest first."""
    processes: list[int] = field(default_factory=list)
    """QEMU's."""


class Pods:
    """The virt-launcher pods of a node. `scan` is for one thread at a time; what it found is for all.

    :param root: where /proc is found; mom must see the node's processes there (`hostPID`)
    :param logs: kubelet's folder of pods' logs on the node
    """

    def __init__(self, root: Path, logs: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._proc = str(root / "proc")
        self._logs = [root / node / str(logs).lstrip("/") for node in _NODE]
        self._cgroups = [root / node / cgroups for node in _NODE for cgroups in _CGROUPS]
        self._monotonic = monotonic
        self._old: set[int] = set()
        """Processes that will not become anything else."""
        self._young: dict[int, float] = {}
        """Until when a process is looked at."""
        self._seen: dict[str, _Seen] = {}
        self._turn = 0
        self._where: dict[int, str] = {}
        """In which pod the processes are that matter."""
        self._names: dict[str, tuple[str, str]] = {}
        self._names_at = float("-inf")
        self.pods: Mapping[str, LauncherPod] = {}
        """By uid; replaced by each scan that finds others."""
        self._denied = False
        """Whether the names of folders could not be read for want of a right."""
        self._unread = False
        """Whether they could not be read at all."""
        self.nameless: Collection[str] = ()
        """The uids of pods with a libvirt whose names the node does not tell."""

    def scan(self) -> bool:
        """Look at the processes that have come since the last scan, and forget those that have gone; whether there are other pods now."""
        ids = ProcessStat.ids(Path(self._proc))
        if ids is None:
            return False
        now, there = self._monotonic(), set(ids)
        ended = {pid for pid in self._daemons_in_turn() if not self._still_runs(pid)}
        for gone in (self._where.keys() - there) | ended:
            self._forget(gone)
        self._old &= there
        self._young = {pid: until for pid, until in self._young.items() if pid in there}
        for pid in sorted(there - self._old - self._young.keys()):
            self._young[pid] = now + _YOUNG_SECONDS
        for pid in self._due():
            if self._look_at(pid) or now >= self._young[pid]:
                del self._young[pid]
                self._old.add(pid)
        return self._renew()

    @property
    def why_nameless(self) -> tuple[str, str]:
        """Why there are pods without names, and the cure; two empty texts where there are none."""
        if not self.nameless:
            return "", ""
        what = f"whose {len(self.nameless)} pods with a libvirt are cannot be said, so they are left alone"
        if self._denied:
            return f"{what}: mom may not look into {self._logs[0]}", RIGHTS
        return f"{what}: they have no folder of logs on this node", "set pod_logs to kubelet's podLogsDir"

    @property
    def all_nameless(self) -> bool:
        """There are pods with a libvirt, and the node told of none whose it is: which of them have guests is not known."""
        return self._unread and bool(self.nameless) and not self.pods

    def guest_process(self, pod_uid: str, uuid: str) -> int | None:
        """The QEMU process of that pod which was started for the guest with this UUID."""
        return next((pid for pid, found in self._guests_in(pod_uid) if found == uuid), None)

    def guest_of(self, pod_uid: str) -> str:
        """The UUID of the guest that a process of that pod was started for, by its command line; empty: there is none."""
        return next((found for _, found in self._guests_in(pod_uid)), "")

    def _guests_in(self, pod_uid: str) -> Iterator[tuple[int, str]]:
        seen = self._seen.get(pod_uid)
        for pid in () if seen is None else tuple(seen.processes):
            _, option, rest = read_kernel_file(f"{self._proc}/{pid}/cmdline", _COMMAND_BYTES).partition(b"\0-uuid\0")
            found = rest.partition(b"\0")[0].decode("ascii", "replace")
            if option and _UUID.fullmatch(found) and self._pod_of(pid)[0] == pod_uid:
                yield pid, found

    def _daemons_in_turn(self) -> list[int]:
        daemons = [pid for seen in self._seen.values() for pid in seen.daemons]
        first = self._turn % len(daemons) if daemons else 0
        self._turn = first + _IN_TURN
        return daemons[first : first + _IN_TURN]

    def _still_runs(self, pid: int) -> bool:
        """It is the process that was found, and neither has its number been given to another nor is it only waited for by its parent."""
        stat, pod = times_of(f"{self._proc}/{pid}"), self._seen[self._where[pid]].daemons[pid]
        return stat is not None and stat.started == pod.started

    def _due(self) -> list[int]:
        """Those that have waited for longest are first."""
        due = list(self._young)[:_MOST_LOOKED_AT]
        for pid in due if len(self._young) > len(due) else ():
            self._young[pid] = self._young.pop(pid)
        return due

    def _look_at(self, pid: int) -> bool:
        """Whether it is one that matters."""
        name = read_kernel_file(f"{self._proc}/{pid}/comm").rstrip(b"\n")
        socket = _DAEMONS.get(name)
        if socket is None and not name.startswith(_QEMU):
            return False
        uid, group = self._pod_of(pid)
        stat = times_of(f"{self._proc}/{pid}")
        if not uid or stat is None or (uid not in self._seen and len(self._seen) >= MOST_PODS):
            return False
        seen = self._seen.setdefault(uid, _Seen())
        if socket is not None and len(seen.daemons) < _MOST_PROCESSES:
            seen.daemons[pid] = LauncherPod(pid, stat.started, uid, self._cgroup(uid, group), socket)
        elif socket is None and len(seen.processes) < _MOST_PROCESSES:
            seen.processes.append(pid)
        self._where[pid] = uid
        return True

    def _forget(self, pid: int) -> None:
        uid = self._where.pop(pid)
        seen = self._seen[uid]
        seen.daemons.pop(pid, None)
        if pid in seen.processes:
            seen.processes.remove(pid)
        if not seen.daemons and not seen.processes:
            del self._seen[uid]

    def _renew(self) -> bool:
        found = {uid: next(iter(seen.daemons.values())) for uid, seen in self._seen.items() if seen.daemons}
        if any(not pod.name for pod in found.values()):
            self._read_names()
            for uid, pod in found.items():
                if not pod.name and uid in self._names:
                    namespace, name = self._names[uid]
                    found[uid] = self._seen[uid].daemons[pod.pid] = replace(pod, namespace=namespace, name=name)
        self.nameless = [uid for uid, pod in found.items() if not pod.name]
        found = {uid: pod for uid, pod in found.items() if pod.name.startswith(LAUNCHER)}
        if found == self.pods:
            return False
        self.pods = found
        return True

    # --- what the node says of a pod -----------------------------------------------------------------------------------------------

    def _pod_of(self, pid: int) -> tuple[str, str]:
        """The uid of the pod that this process is in, and the path of its control group (v2) down to the pod's; empty: in none."""
        for controller, path in sorted(cgroups_of(f"{self._proc}/{pid}").items()):  # the group of v2 first, whose controller has no name
            steps = path.split("/")
            for number, step in enumerate(steps):
                match = _POD.search(step)
                if match is not None:
                    return match[1].replace("_", "-"), "" if controller else "/".join(steps[: number + 1])
        return "", ""

    def _cgroup(self, uid: str, group: str) -> str:
        """The folder of the pod's group. Seen from a container, its path leads up out of it first, and is searched for instead."""
        for top in self._cgroups:
            if not os.path.exists(f"{top}/cgroup.controllers"):  # noqa: PTH110  # a path that may not be looked at is no error
                continue
            if group and ".." not in group.split("/") and os.path.isdir(f"{top}{group}"):  # noqa: PTH112  # as above
                return f"{top}{group}"
            return next(_groups_of(top, uid, _DEEPEST), "")
        return ""

    def _read_names(self) -> None:
        now = self._monotonic()
        if now - self._names_at < _LOGS_AGAIN_SECONDS:
            return
        self._names_at, self._denied, self._unread = now, False, True
        for folder in self._logs:
            try:
                names = os.listdir(folder)  # noqa: PTH208  # a path for each of hundreds would take most of the time
            except OSError as error:
                self._denied |= isinstance(error, PermissionError)
                continue
            self._denied = self._unread = False
            matches = filter(None, map(_LOG_FOLDER.fullmatch, names))
            self._names = {match[3]: (match[1], match[2]) for match in matches}
            return


def _groups_of(folder: Path, uid: str, depth: int) -> Iterator[str]:
    names = _subfolders(folder)
    for name in names:
        match = _POD.search(name)
        if match is not None and match[1].replace("_", "-") == uid:
            yield str(folder / name)
    if depth:
        for name in names:
            if ("kube" in name or name in {"besteffort", "burstable"}) and not _POD.search(name):
                yield from _groups_of(folder / name, uid, depth - 1)


def _subfolders(folder: Path) -> Collection[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
