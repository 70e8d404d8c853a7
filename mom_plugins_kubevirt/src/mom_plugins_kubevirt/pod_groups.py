"""A pod's control groups (v2), as mom can open them also from within a container: limits of memory, and the pressure in them.

There, the paths of groups lead to nothing, and the pod's folder does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Value, as_number
from mom_kvm import GroupLimit, GuestField, Hierarchies, cgroups_of, pressure_in
from mom_plugins_kubevirt.launcher_pod import LauncherPod

_IN_TURN: Final = 50
"""How many pods' groups are looked at in one cycle, of which each takes a quarter of a millisecond: until a pod's turn comes, what the last
look found stands."""

_TOLD: Final = "host_psi_memory_some_avg10"
"""Where this is known, the groups are seen by the usual way."""

_TOP: Final = "/sys/fs/cgroup"


_RESIDENT: Final = "rss"


class _Look(NamedTuple):
    """What was found in a pod's groups: the folder of its container's, and fields; and what its guest's process held then (KiB)."""

    group: str
    found: Mapping[str, Value]
    resident: float | None


class PodGroups:
    """The control groups of pods, looked at in turn.

    :param proc: where /proc is found
    """

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._turn = 0
        self._found: dict[str, _Look] = {}
        """By pod uid."""

    def look(self, fields: Mapping[str, Mapping[str, Value]], pods: Mapping[str, LauncherPod]) -> None:
        """Look at the groups of some of these pods: of new ones first, and not of those that are seen by the usual way.

        :param fields: of guests, by their ids
        :param pods: the same
        """
        there = {
            pods[identity].pod_uid: (pods[identity], as_number(known.get(_RESIDENT)))
            for identity, known in fields.items()
            if identity in pods and _TOLD not in known
        }
        self._found = {uid: found for uid, found in self._found.items() if uid in there}
        new = [uid for uid in there if uid not in self._found]
        known = list(self._found)
        first = self._turn % max(1, len(known))
        self._turn = first + _IN_TURN
        for uid in [*new, *known[first:], *known[:first]][:_IN_TURN]:
            pod, resident = there[uid]
            group = container_group(pod, self._proc)
            self._found[uid] = _Look(group, group_fields(pod, group), resident)

    def of(self, pod: LauncherPod, resident: float | None) -> tuple[str, Mapping[str, Value]]:
        """The folder of the group of its container (empty: not known), and what was found in it, with as much less left below the limit as
        the guest has come to hold since.

        :param resident: what the guest's process holds now, in KiB; None: not known
        """
        group, found, before = self._found.get(pod.pod_uid, _NOTHING)
        room = as_number(found.get(GuestField.LIMIT_ROOM))
        if room is None or resident is None or before is None:
            return group, found
        return group, {**found, GuestField.LIMIT_ROOM: max(0, int(room + before - resident))}


_NOTHING: Final = _Look("", {}, None)


def container_group(pod: LauncherPod, proc: Path) -> str:
    """The folder of the group of the container with the guest, which is that of its libvirt; empty: not found."""
    if not pod.cgroup:
        return ""
    name = pod.cgroup.rpartition("/")[2]
    _, found, inside = cgroups_of(f"{proc}/{pod.pid}").get(Hierarchies.UNIFIED, "").partition(f"/{name}/")
    return f"{pod.cgroup}/{inside}" if found and ".." not in inside.split("/") else ""


def group_fields(pod: LauncherPod, group: str) -> dict[str, Value]:
    """What the limits of these groups still leave, and how long their tasks wait; without what is unknown.

    :param group: the folder of the container's group; empty: not found
    """
    folder = group or pod.cgroup
    top = f"{folder[: folder.rindex(_TOP)]}{_TOP}" if _TOP in folder else ""
    limit = GroupLimit.of_memory(folder, top) if top else None
    found: dict[str, Value] = {} if limit is None else {GuestField.LIMIT_ROOM: limit.room}
    if folder:
        found |= {f"host_psi_{name}_avg10": percent for name, percent in pressure_in(folder).items()}
    return found
