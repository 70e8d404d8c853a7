"""A pod in which KubeVirt runs one guest, by what the node itself knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RIGHTS: Final = "mom needs CAP_SYS_PTRACE and CAP_DAC_OVERRIDE in the node's process namespace (hostPID)"
"""The cure where mom may not look into pods and their node."""


@dataclass(frozen=True, slots=True)
class LauncherPod:
    """One virt-launcher pod. Nothing here is by the word of what runs in it, but that it calls itself a libvirt daemon."""

    pid: int
    """The libvirt daemon in it, as mom's own /proc numbers it."""
    started: int
    """When that process began, in ticks since boot: with `pid`, no other process has it."""
    pod_uid: str
    """The pod's uid, by the name of its control group, with hyphens."""
    cgroup: str
    """The folder of the pod's own control group (v2), above those of its containers, as mom can open it; empty: not found."""
    socket: str
    """Where its daemon listens, as a path in the pod's own root."""
    namespace: str = ""
    """The pod's namespace, by the name of the folder in which kubelet keeps its logs."""
    name: str = ""
    """The pod's name, by the same: `virt-launcher-NAME-…`."""
