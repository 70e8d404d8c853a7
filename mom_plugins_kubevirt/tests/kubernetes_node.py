"""A node's /proc, control groups and log folders, as files."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

_STAT = "{pid} ({name}) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 {started} 0 {resident}"


@dataclass
class Node:
    """Files of a node. Tests start pods and processes on it."""

    root: Path
    last: int = 1000

    @property
    def logs(self) -> Path:
        """kubelet's folder of logs."""
        return self.root / "var/log/pods"

    def pod(self, namespace: str = "prod", name: str = "virt-launcher-db-x7k2p", group: str = "", *, named: bool = True) -> str:
        """Make a pod's group and log folder like kubelet. Return the uid.

        :param group: path of its group, with `{}` for the uid
        """
        uid = str(uuid.uuid4())
        folder = self.root / "sys/fs/cgroup" / self.group(uid, group).lstrip("/")
        folder.mkdir(parents=True)
        (self.root / "sys/fs/cgroup/cgroup.controllers").write_text("memory\n")
        (self.root / "proc/self").mkdir(parents=True, exist_ok=True)
        (self.root / "proc/self/mountinfo").write_text("31 24 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
        if named:
            (self.logs / f"{namespace}_{name}_{uid}").mkdir(parents=True)
        return uid

    @staticmethod
    def group(uid: str, group: str = "") -> str:
        return (group or "/kubepods/burstable/pod{}").format(uid)

    def process(self, name: str, cgroup: str, *arguments: str) -> int:
        """Start a process."""
        self.last += 1
        folder = self.root / "proc" / str(self.last)
        folder.mkdir(parents=True)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "stat").write_text(_STAT.format(pid=self.last, name=name, started=self.last * 7, resident=2560))
        (folder / "cgroup").write_text(f"0::{cgroup}\n")
        (folder / "cmdline").write_text("\0".join((name, *arguments)) + "\0")
        return self.last

    def ends(self, pid: int) -> None:
        """End a process."""
        shutil.rmtree(self.root / "proc" / str(pid))
