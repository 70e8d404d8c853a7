"""Memory limits and pressure of pods' cgroups (v2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Value, as_number
from mom_kvm import GroupLimit, GuestField, Hierarchies, cgroups_of, pressure_in
from mom_plugins_kubevirt.pods import LauncherPod

_IN_TURN: Final = 50
"""Most pods read in one cycle, a quarter of a millisecond each."""

_USUAL_FIELD: Final = "host_psi_memory_some_avg10"
"""A guest with this field already has its groups' fields."""

_TOP: Final = "/sys/fs/cgroup"


_RESIDENT: Final = "rss"


class _Reading(NamedTuple):
    """Fields of a pod's groups, and the guest process's RSS in KiB."""

    group: str
    fields: Mapping[str, Value]
    resident: float | None


class PodGroups:
    """Cgroups of pods, read in turn."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._turn = 0
        self._readings: dict[str, _Reading] = {}
        """Readings, keyed by pod uid."""

    def look(self, fields: Mapping[str, Mapping[str, Value]], pods: Mapping[str, LauncherPod]) -> None:
        """Read the groups of some of these pods, new pods first. Both are keyed by guest id."""
        due = {
            pods[identity].pod_uid: (pods[identity], as_number(guest_fields.get(_RESIDENT)))
            for identity, guest_fields in fields.items()
            if identity in pods and _USUAL_FIELD not in guest_fields
        }
        self._readings = {uid: reading for uid, reading in self._readings.items() if uid in due}
        new, old = [uid for uid in due if uid not in self._readings], list(self._readings)
        first = self._turn % max(1, len(old))
        self._turn = first + _IN_TURN
        for uid in [*new, *old[first:], *old[:first]][:_IN_TURN]:
            pod, resident = due[uid]
            group = container_group(pod, self._proc)
            self._readings[uid] = _Reading(group, group_fields(pod, group), resident)

    def of(self, pod: LauncherPod, resident: float | None) -> tuple[str, Mapping[str, Value]]:
        """Return the container's group (empty if unknown), and the fields of its last reading.

        :param resident: RSS in KiB of the guest's process now, to correct the headroom
        """
        group, fields, before = self._readings.get(pod.pod_uid, _NO_READING)
        room = as_number(fields.get(GuestField.LIMIT_ROOM))
        if room is None or resident is None or before is None:
            return group, fields
        return group, {**fields, GuestField.LIMIT_ROOM: max(0, int(room + before - resident))}


_NO_READING: Final = _Reading("", {}, None)


def container_group(pod: LauncherPod, proc: Path) -> str:
    """Return the group of the guest's container; empty if not found."""
    if not pod.cgroup:
        return ""
    name = pod.cgroup.rpartition("/")[2]
    _, separator, inside = cgroups_of(f"{proc}/{pod.pid}").get(Hierarchies.UNIFIED, "").partition(f"/{name}/")
    return f"{pod.cgroup}/{inside}" if separator and ".." not in inside.split("/") else ""


def group_fields(pod: LauncherPod, group: str) -> dict[str, Value]:
    """Return headroom and pressure of the groups, without unknown values.

    :param group: the container's group; empty if not found
    """
    folder = group or pod.cgroup
    top = f"{folder[: folder.rindex(_TOP)]}{_TOP}" if _TOP in folder else ""
    limit = GroupLimit.of_memory(folder, top) if top else None
    fields: dict[str, Value] = {} if limit is None else {GuestField.LIMIT_ROOM: limit.room}
    if folder:
        fields |= {f"host_psi_{name}_avg10": percent for name, percent in pressure_in(folder).items()}
    return fields
