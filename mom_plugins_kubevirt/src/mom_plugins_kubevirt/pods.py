"""virt-launcher pods of this node, found in /proc.

A pod's UID comes from its cgroup's name, which no container can change. Everything else in a pod is untrusted.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mom_kvm import Hierarchies, ProcessStat, read_kernel_file

RIGHTS: Final = "mom needs CAP_SYS_PTRACE and CAP_DAC_OVERRIDE in the node's process namespace (hostPID)"

_DAEMONS: Final[Mapping[bytes, str]] = {b"virtqemud": "var/run/libvirt/virtqemud-sock", b"libvirtd": "var/run/libvirt/libvirt-sock"}
"""Names of libvirt's daemons in a pod, with the paths of their sockets. The daemon of newer versions comes first."""

_QEMU: Final = b"qemu"

_POD: Final = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})(?:\.slice)?")
"""Name of a pod's cgroup: `pod<uid>` with the kubelet's cgroupfs driver, `…-pod<uid>.slice` with its systemd driver."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_YOUNG_SECONDS: Final = 5.0
"""Each scan reads processes younger than this again, because they may still execute another program."""

_MOST_LOOKED_AT: Final = 3000
"""One scan reads at most this many processes."""

_MOST_PROCESSES: Final = 16
"""mom records at most this many daemons, and this many QEMU processes, per pod."""

_LOGS_AGAIN_SECONDS: Final = 1.0

NODE_ROOTS: Final = ("proc/1/root", "")
"""The node's root folder, seen from a container in the node's process namespace, and from the node."""

LAUNCHER: Final = "virt-launcher-"
"""Name prefix of KubeVirt's pods with guests."""

_LOG_FOLDER: Final = re.compile(r"([a-z0-9][a-z0-9-]{0,62})_([a-z0-9][a-z0-9.-]{0,252})_([0-9a-f-]{36})")
"""Name of a pod's log folder, which the kubelet creates: NAMESPACE_POD_UID."""

_COMMAND_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class LauncherPod:
    """virt-launcher pod according to the node. Only the daemon's name comes from the pod."""

    pid: int
    """PID of the libvirt daemon."""
    started: int
    """Start time of the libvirt daemon in clock ticks since boot."""
    pod_uid: str
    """UID with hyphens, from the cgroup's name."""
    cgroup: str
    """Folder of the pod's cgroup (v2), which contains the cgroups of its containers; empty if not visible."""
    socket: str
    """Path of libvirt's socket in the pod's own root folder."""
    namespace: str = ""
    name: str = ""
    """`virt-launcher-NAME-…`. Namespace and name come from the pod's log folder."""
    container: str = ""
    """Folder of the cgroup (v2) of the libvirt daemon; empty if not visible."""


class Pods:
    """virt-launcher pods of a node. One thread at a time calls `scan`; any thread reads the results."""

    def __init__(self, root: Path, logs: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._proc = str(root / "proc")
        self._logs = [root / node / str(logs).lstrip("/") for node in NODE_ROOTS]
        self._hierarchies = Hierarchies(root)
        self._monotonic = monotonic
        self._read_until: dict[int, float] = {}
        """Monotonic time until which scans read a process again, keyed by PID; 0 if they need not read it."""
        self._daemons: dict[int, LauncherPod] = {}
        """Pods of libvirt daemons, keyed by PID, the oldest first."""
        self._qemus: dict[int, str] = {}
        """Pod UIDs of QEMU processes, keyed by PID."""
        self._names: dict[str, tuple[str, str]] = {}
        self._names_at = float("-inf")
        self.pods: Mapping[str, LauncherPod] = {}
        """Pods, keyed by UID. If pods change, a scan replaces the whole mapping."""
        self._unread = False
        """Whether no log folder was readable."""
        self.nameless: Collection[str] = ()
        """UIDs of pods that have a libvirt, but whose names are unknown."""

    def scan(self) -> bool:
        """Read new processes, and forget processes that have exited. Return whether the pods have changed."""
        ids = ProcessStat.ids(Path(self._proc))
        if ids is None:
            return False
        self._hierarchies.keep_fresh()
        now, running = self._monotonic(), set(ids)
        self._daemons = {pid: pod for pid, pod in self._daemons.items() if self._still_runs(pod)}
        self._qemus = {pid: uid for pid, uid in self._qemus.items() if pid in running}
        self._read_until = {pid: until for pid, until in self._read_until.items() if pid in running}
        self._read_until |= dict.fromkeys(sorted(running - self._read_until.keys()), now + _YOUNG_SECONDS)
        for pid in [pid for pid, until in self._read_until.items() if until][:_MOST_LOOKED_AT]:
            until = self._read_until.pop(pid)  # the process goes to the end: the next scan begins with others
            self._read_until[pid] = 0.0 if self._look_at(pid) or now >= until else until
        return self._renew()

    @property
    def why_nameless(self) -> tuple[str, str]:
        """Why the names of some pods are unknown, and the fix. Both are empty if all names are known."""
        if not self.nameless:
            return "", ""
        problem = f"the names of {len(self.nameless)} pods with a libvirt are unknown, so mom does not manage them"
        return f"{problem}: mom sees no log folder of them", f"set pod_logs to the kubelet's podLogsDir; {RIGHTS}"

    @property
    def all_nameless(self) -> bool:
        """Whether no pod's name is known."""
        return self._unread and bool(self.nameless) and not self.pods

    def guest_process(self, pod_uid: str, uuid: str) -> int | None:
        """Return the PID of the pod's QEMU process that runs the guest with this UUID; None if not found."""
        return next((pid for pid, own_uuid in self._guests_in(pod_uid) if own_uuid == uuid), None)

    def guest_of(self, pod_uid: str) -> str:
        """Return the UUID of the pod's guest, from the command line of QEMU; empty if the pod has no QEMU process."""
        return next((uuid for _, uuid in self._guests_in(pod_uid)), "")

    def _guests_in(self, pod_uid: str) -> Iterator[tuple[int, str]]:
        for pid in [pid for pid, uid in tuple(self._qemus.items()) if uid == pod_uid]:
            _, option, arguments = read_kernel_file(f"{self._proc}/{pid}/cmdline", _COMMAND_BYTES).partition(b"\0-uuid\0")
            uuid = arguments.partition(b"\0")[0].decode("ascii", "replace")
            if option and _UUID.fullmatch(uuid) and self._pod_of(pid)[0] == pod_uid:
                yield pid, uuid

    def _still_runs(self, pod: LauncherPod) -> bool:
        # A reused pid or a zombie does not count.
        stat = ProcessStat.running(f"{self._proc}/{pod.pid}")
        return stat is not None and stat.started == pod.started

    def _look_at(self, pid: int) -> bool:
        name = read_kernel_file(f"{self._proc}/{pid}/comm").rstrip(b"\n")
        socket = _DAEMONS.get(name)
        if socket is None and not name.startswith(_QEMU):
            return False
        uid, group = self._pod_of(pid)
        stat = ProcessStat.running(f"{self._proc}/{pid}")
        if not uid or stat is None:
            return False
        present = [pod.pod_uid for pod in self._daemons.values()] if socket else list(self._qemus.values())
        if present.count(uid) >= _MOST_PROCESSES:
            return True
        if socket is None:
            self._qemus[pid] = uid
        else:
            path = Hierarchies.paths_of(f"{self._proc}/{pid}").get(Hierarchies.UNIFIED, "")
            self._daemons[pid] = LauncherPod(pid, stat.started, uid, self._folder(group), socket, container=self._folder(path))
        return True

    def _renew(self) -> bool:
        pods: dict[str, LauncherPod] = {}
        for pod in self._daemons.values():
            pods.setdefault(pod.pod_uid, pod)
        if any(not pod.name for pod in pods.values()):
            self._read_names()
            for uid, pod in pods.items():
                if not pod.name and uid in self._names:
                    namespace, name = self._names[uid]
                    pods[uid] = self._daemons[pod.pid] = replace(pod, namespace=namespace, name=name)
        self.nameless = [uid for uid, pod in pods.items() if not pod.name]
        pods = {uid: pod for uid, pod in pods.items() if pod.name.startswith(LAUNCHER)}
        if pods == self.pods:
            return False
        self.pods = pods
        return True

    # --- the node's facts about a pod ----------------------------------------------------------------------------------------------

    def _pod_of(self, pid: int) -> tuple[str, str]:
        for controller, path in sorted(Hierarchies.paths_of(f"{self._proc}/{pid}").items()):  # v2 first, which has no controller name
            steps = path.split("/")
            for number, step in enumerate(steps):
                match = _POD.search(step)
                if match is not None:
                    return match[1].replace("_", "-"), "" if controller else "/".join(steps[: number + 1])
        return "", ""

    def _folder(self, group: str) -> str:
        return self._hierarchies.folder(Hierarchies.UNIFIED, group) or ""

    def _read_names(self) -> None:
        now = self._monotonic()
        if now - self._names_at < _LOGS_AGAIN_SECONDS:
            return
        self._names_at, self._unread = now, True
        for folder in self._logs:
            try:
                names = os.listdir(folder)  # noqa: PTH208  # a Path for each of hundreds is too slow
            except OSError:
                continue
            self._unread = False
            matches = filter(None, map(_LOG_FOLDER.fullmatch, names))
            self._names = {match[3]: (match[1], match[2]) for match in matches}
            return
