"""Container like that of the DaemonSet in packaging/kubernetes: namespaces, capabilities, read-only root and mounts.

Tests act like kubelet: probes, preStop, SIGTERM, and finally SIGKILL. seccomp, SELinux and resource limits are missing. The root is this
machine's, or that of an unpacked image in MOM_NODE_ROOT.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml
from launcher_pods import groups_root

from mom_devkit import wait_until

ROOT: Final = Path(__file__).resolve().parents[2]
PATH: Final = f"{Path(sys.executable).parent}:{ROOT / 'packaging/oci'}:/usr/sbin:/usr/bin:/sbin:/bin"

_ENTER: Final = """set -e
folder=$1 lower=$2 shared=$3 logs=$4 groups=$5
shift 5
mount --make-rprivate /
mount -t tmpfs tmpfs "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
root=$folder/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$root"
mkdir -p "$root/run/mom" "$root/var/lib/mom" "$root/etc/mom/policy.d" "$root/host/cgroup"
touch "$root/etc/mom/mom.yaml" "$root/etc/mom/policy.d/50_test.policy"
[ -z "$logs" ] || mkdir -p "$root/node/pods"
mount -o remount,ro "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755,size=64k tmpfs "$root/dev"
for name in null zero full random urandom; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mount -t tmpfs -o mode=777,size=16m tmpfs "$root/tmp"
mount --bind "$shared/run" "$root/run/mom"
mount --bind "$shared/state" "$root/var/lib/mom"
for name in mom.yaml policy.d/50_test.policy; do
    mount --bind "$shared/config/$name" "$root/etc/mom/$name"
    mount -o remount,bind,ro "$root/etc/mom/$name"
done
mount --bind "$groups" "$root/host/cgroup"
mount -o remount,bind,ro "$root/host/cgroup"
[ -z "$logs" ] || mount --bind "$logs" "$root/node/pods"
cd /
exec chroot "$root" "$@"
"""


class NodeContainer:
    """Container. `shared` remains on the node for the next container: state, run directory, and here also the configuration.

    :param pod_logs: kubelet's folder of pods' logs, mounted if `node_root_is_seen` is false
    :param without: capabilities of the manifest that it does not get
    """

    def __init__(self, shared: Path, pod_logs: Path, without: Collection[str] = ()) -> None:
        lower = Path(os.environ.get("MOM_NODE_ROOT", "/"))
        (manifest,) = yaml.safe_load_all((ROOT / "packaging/kubernetes/base/daemonset.yaml").read_text())
        self.spec: Mapping[str, Any] = manifest["spec"]["template"]["spec"]
        self.told: Mapping[str, Any] = self.spec["containers"][0]
        self.shared = shared
        self._folder = shared / f"container-{uuid.uuid4().hex[:8]}"
        self._folder.mkdir()
        self._log = shared / f"{self._folder.name}.log"
        self._path = PATH if lower == Path("/") else "/usr/bin:/bin"
        context = self.told["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["privileged"]
        assert context["capabilities"]["drop"] == ["ALL"]
        wanted = [name.lower() for name in context["capabilities"]["add"] if name not in without]
        bounds = ",".join(["-all", *(f"+{name}" for name in wanted if name in _ours())])
        self._rights = ["setpriv", f"--bounding-set={bounds}", "--inh-caps=-all", "--clear-groups"]
        self._rights += ["--no-new-privs"] if not context["allowPrivilegeEscalation"] else []
        self._environment = ["/usr/bin/env", "-i", f"PATH={self._path}", "NODE_NAME=node", "LANG=C.UTF-8", "MOM_HUNG_SECONDS=1"]
        self._group = groups_root() / f"kubepods-{self._folder.name}/pod{uuid.uuid4()}/mom"
        self._group.mkdir(parents=True)
        self._namespaces = ["--mount", "--uts", "--ipc", "--net", "--cgroup"]  # not --pid, because of hostPID
        assert self.spec["hostPID"]
        logs = "" if node_root_is_seen() else str(pod_logs)
        enter = ["sh", "-c", _ENTER, "sh", str(self._folder), str(lower), str(shared), logs, str(groups_root())]
        command = ["mom-node" if not self.told.get("command") else self.told["command"], *self.told["args"]]
        inside = ["unshare", *self._namespaces, *enter, *self._environment, *self._rights, *command]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", "-c", 'echo 0 > "$0" && exec "$@"', self._group / "cgroup.procs", *inside],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self) -> str:
        """Output of the container."""
        return self._log.read_text()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as a probe or `kubectl exec` does."""
        into = ["nsenter", f"--target={self.process.pid}", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"]
        whole = [*into, *self._environment, *self._rights, *command]
        return subprocess.run(whole, capture_output=True, text=True, timeout=60, check=False)

    def probe(self, name: str) -> bool:
        """Run a probe. Return whether it succeeds."""
        return self.run(*self.told[name]["exec"]["command"]).returncode == 0

    @property
    def state(self) -> str:
        """State that mom-node has written in its /tmp."""
        return self.run("cat", "/tmp/mom-node/state").stdout.strip()

    def wait_until(self, state: str) -> None:
        """Wait until it has this state, and the startup probe succeeds."""
        wait_until(
            lambda: self.state == state and self.probe("startupProbe"), lambda: f"{self.state!r}, not {state}: {self.log[-3000:]}", 60
        )

    def mom_pid(self) -> int:
        """Pid of mom."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (pid,) = [int(one) for one in children if b"mom\0run\0" in Path(f"/proc/{one}/cmdline").read_bytes()]
        return pid

    def delete(self) -> tuple[int, int]:
        """End the container like kubelet:

        preStop, SIGTERM, and SIGKILL after the grace period. Return the exit codes of preStop and the container.
        """
        grace = self.spec["terminationGracePeriodSeconds"]
        asked = self.run(*self.told["lifecycle"]["preStop"]["exec"]["command"])
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(grace)
        finally:
            self.kill()
        return asked.returncode, self.process.returncode

    def kill(self) -> None:
        """Kill all its processes, as for exceeding its memory limit."""
        for pid in (self._group / "cgroup.procs").read_text().split() if self._group.exists() else ():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.process.wait(20)

    def remove(self) -> None:
        """Remove its remains. The kernel keeps a group until all its killed processes are reaped."""
        with suppress(OSError):
            self.kill()

        def gone() -> bool:
            for group in (self._group, self._group.parent, self._group.parent.parent):
                with suppress(OSError):
                    group.rmdir()
            return not self._group.parent.parent.exists()

        wait_until(gone, f"{self._group} is empty", 20)


def node_root_is_seen() -> bool:
    """Return whether the root of process 1 is readable. mom finds the node's files there. A sandbox may forbid it."""
    return os.access("/proc/1/root/proc", os.R_OK)


def _ours() -> Collection[str]:
    """Return the capabilities that this process can pass on, in lower case."""
    said = subprocess.check_output(["setpriv", "--dump"], text=True)
    (line,) = re.findall(r"^Capability bounding set: (.*)$", said, re.M)
    return set(line.split(","))
