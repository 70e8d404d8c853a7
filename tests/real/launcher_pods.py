"""Pods like KubeVirt's, without Kubernetes: each has a libvirt as user 107, in a control group with kubelet's names and a mount namespace.

kubelet's log folders exist beside them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from guest_image import GuestImage
from private_libvirtd import PREFIX, CannotStart
from real_guests import Lab, RealGuest

from mom_devkit import wait_until

USER = 107
"""User `qemu` of virt-launcher's image."""

_REAPER = Path(__file__).resolve().with_name("reaper.py")
_STAND_IN = _REAPER.with_name("stand_in_libvirt.py")

_PASSWD = f"root:x:0:0:root:/root:/bin/sh\nqemu:x:{USER}:{USER}:qemu:/:/bin/false\n"
_GROUP = f"root:x:0:\nqemu:x:{USER}:\n"

_QEMU_CONF = 'stdio_handler = "file"\nnamespaces = []\nsecurity_driver = "none"\n'

_ENTER = """set -e
for group in $2; do echo $$ > "$group/cgroup.procs"; done
mount --make-rprivate / 2>&- || true
mount --bind "$1/run" /run
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group" /etc/group
cd /
shift 2
exec setpriv --reuid 107 --regid 107 --clear-groups --inh-caps=-all --bounding-set=-all "$@"
"""


def groups_root() -> Path:
    """Return the root of control groups v2."""
    root = Path("/sys/fs/cgroup")
    return root if (root / "cgroup.controllers").exists() else root / "unified"


def groups_roots() -> list[Path]:
    """Return the root of control groups v2, and of v1 memory groups if they exist."""
    memory = Path("/sys/fs/cgroup/memory")
    return [groups_root(), memory] if memory.is_dir() else [groups_root()]


def _remove_tree(group: Path) -> None:
    """Remove a group with all groups below it. Try for two seconds, because killed processes end late."""
    end = time.monotonic() + 2.0
    while group.exists() and time.monotonic() < end:
        _remove_groups(*sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True), group)
        time.sleep(0.02)


def _remove_groups(*groups: Path) -> None:
    for group in groups:
        with suppress(OSError):  # a process has not ended yet
            group.rmdir()


class TestPod:
    """Pod of one guest.

    :param stand_in: answers of its stand-in, see `stand_in_libvirt`; None for a real libvirtd
    """

    __test__ = False

    def __init__(self, pods: TestPods, namespace: str, name: str, stand_in: Mapping[str, object] | None) -> None:
        self.namespace, self.name = namespace, name
        self.uid = str(uuid.uuid4())
        self.pod_name = f"virt-launcher-{name}-{self.uid[:5]}"
        self.folder = pods.folder / self.uid[:8]
        for below in ("run/libvirt", "config/libvirt", "lib"):
            (self.folder / below).mkdir(parents=True)
        (self.folder / "config/libvirt/qemu.conf").write_text(_QEMU_CONF)
        (self.folder / "passwd").write_text(_PASSWD)
        (self.folder / "group").write_text(_GROUP)
        for path in [self.folder, *self.folder.rglob("*")]:
            os.chown(path, USER, USER)
        self._logs = pods.logs / f"{namespace}_{self.pod_name}_{self.uid}"
        self._logs.mkdir()
        self.groups = [group / f"pod{self.uid}/compute" for group in pods.groups]
        for group in self.groups:
            group.mkdir(parents=True)
        self._pid_file = self.folder / "pid"
        folders = {"CONFIG_HOME": self.folder / "config", "DATA_HOME": self.folder / "lib", "CACHE_HOME": pods.cache, "RUNTIME_DIR": "/run"}
        environment = {**os.environ, "HOME": "/", **{f"XDG_{key}": str(path) for key, path in folders.items()}}
        self.uuid = str(uuid.uuid4())
        command = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", str(self.folder), " ".join(map(str, self.groups))]
        if stand_in is None:
            self.socket = "run/libvirt/libvirt-sock"
            # Its remaining processes are orphans.
            command = [sys.executable, str(_REAPER), str(self._pid_file), *command, "libvirtd", "--config", "/dev/null"]
        else:
            self.socket = "run/libvirt/virtqemud-sock"
            told = json.dumps({"name": f"{namespace}_{name}", "mib": 1024, **stand_in})
            command += ["/usr/bin/python3", "-S", "-E", str(_STAND_IN), f"/{self.socket}", told, "-uuid", self.uuid]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        if stand_in is not None:
            self._pid_file.write_text(str(self._process.pid))

    @property
    def pid(self) -> int:
        """Pid of the libvirt daemon."""
        return int(self._pid_file.read_text())

    @property
    def uri(self) -> str:
        """URI of its libvirt on the node."""
        return f"qemu+unix:///session?socket=/proc/{self.pid}/root/{self.socket}"

    @property
    def pid_folder(self) -> Path:
        """Folder with the guest's pid file."""
        return self.folder / "run/libvirt/qemu/run"

    def wait_until_it_listens(self) -> None:
        """Wait until the daemon listens. Raise `CannotStart` with its output."""

        def listens() -> bool:
            if self._process.poll() is not None:
                raise CannotStart((self.folder / "log").read_text()[-2000:])
            return self._pid_file.exists() and (self.folder / self.socket).is_socket()

        wait_until(listens, lambda: (self.folder / "log").read_text()[-500:], 60)

    def connect(self) -> Any:
        """Return a new connection."""
        import libvirt  # type: ignore[import-untyped]  # it has no types

        return libvirt.open(self.uri)

    def stop(self, number: int = signal.SIGSTOP) -> None:
        """Send its daemon a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill all processes, like an eviction of the pod."""
        for pid in (self.groups[0] / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # libvirtd's reaper waits for guests
            self._process.wait(0.05)

    def remove(self) -> None:
        """Kill the pod, and remove its remains."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        shutil.rmtree(self._logs, ignore_errors=True)
        for group in self.groups:
            _remove_groups(group, group.parent)


class TestPods:
    """Pods of a test node."""

    __test__ = False

    def __init__(self) -> None:
        if os.geteuid() != 0 or shutil.which("libvirtd") is None:
            raise CannotStart("pods are started by root, with libvirtd")
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}pods-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.logs, self.cache = self.folder / "logs", self.folder / "cache"
        self.logs.mkdir()
        self.cache.mkdir()
        os.chown(self.cache, USER, USER)
        self.groups = [root / f"kubepods-{self.folder.name}/besteffort" for root in groups_roots()]
        try:
            for group in self.groups:
                group.mkdir(parents=True)
        except OSError as error:
            raise CannotStart(f"control groups cannot be made: {error}") from error
        self.pods: list[TestPod] = []

    def start(self, namespace: str, name: str, stand_in: Mapping[str, object] | None = None) -> TestPod:
        """Start a pod with a real libvirtd, or with a stand-in."""
        pod = TestPod(self, namespace, name, stand_in)
        self.pods.append(pod)
        return pod

    def settings(self, **more: object) -> dict[str, Any]:
        """Return settings of the plugin kubevirt."""
        return {"pod_logs": str(self.logs), **more}

    def image(self, built: GuestImage) -> GuestImage:
        """Return a copy of the image that the pods' user can read."""
        copies = {}
        for key in ("kernel", "initrd"):
            copies[key] = self.folder / key
            if not copies[key].exists():
                shutil.copyfile(getattr(built, key), copies[key])
                copies[key].chmod(0o644)
        return replace(built, **copies)

    def guest(self, pod: TestPod, image: GuestImage, **how: Any) -> RealGuest:
        """Start the guest of a pod whose namespace begins with the tests' prefix; see `Lab.start`."""
        lab = Lab(pod, self.image(image))  # type: ignore[arg-type]  # it has the URI and the folder, which are all that is used of one
        return lab.start(f"{pod.namespace.removeprefix(PREFIX)}_{pod.name}", **how)

    def remove_all(self) -> None:
        """End all pods."""
        pods, self.pods = self.pods, []
        for pod in pods:
            pod.kill()
        for pod in pods:
            pod.remove()
        for group in self.groups:
            _remove_tree(group.parent)
        shutil.rmtree(self.folder, ignore_errors=True)
