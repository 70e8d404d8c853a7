"""A pod's control groups (v2), as mom can open them also from within a container: limits of memory, and the pressure in them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mom_core import Value
from mom_plugins_kubevirt.launcher_pod import LauncherPod
from mom_toolkit import GroupLimit, Pressure, read_kernel_file

LIMIT_ROOM: Final = "host_limit_room"
"""As every hypervisor of QEMU guests has it; from a container, the paths of groups lead to nothing, and the pod's folder does."""

_TOP: Final = "/sys/fs/cgroup"
_CGROUP_BYTES: Final = 16 << 10


def container_group(pod: LauncherPod, proc: Path) -> str:
    """The folder of the group of the container with the guest, which is that of its libvirt; empty: not found."""
    if not pod.cgroup:
        return ""
    name = pod.cgroup.rpartition("/")[2]
    for line in read_kernel_file(f"{proc}/{pod.pid}/cgroup", _CGROUP_BYTES).decode("utf-8", "replace").splitlines():
        _, found, inside = line.partition(f"/{name}/")
        if line.startswith("0::") and found and ".." not in inside.split("/"):
            return f"{pod.cgroup}/{inside}"
    return ""


def group_fields(pod: LauncherPod, group: str) -> dict[str, Value]:
    """What the limits of these groups still leave, and how long their tasks wait; without what is unknown.

    :param group: the folder of the container's group; empty: not found
    """
    folder = group or pod.cgroup
    top = f"{folder[: folder.rindex(_TOP)]}{_TOP}" if _TOP in folder else ""
    limit = GroupLimit.of_memory(folder, top) if top else None
    found: dict[str, Value] = {} if limit is None else {LIMIT_ROOM: limit.room}
    for resource in ("memory", "cpu", "io") if folder else ():
        told = Pressure.parse(read_kernel_file(f"{folder}/{resource}.pressure"))
        found |= {f"host_psi_{resource}_{kind}_avg10": pressure.avg10 for kind, pressure in told.items()}
    return found
