"""The control groups of one guest: where they are, and what each of its controls stands at.

What is read and set is the group of the whole guest, above those that libvirt makes in it for the emulator and the vCPUs: weights,
protection and latency targets only mean something among the groups of all guests, which are siblings there, and limits hold for all that
the guest's processes use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mom_core import Value
from mom_plugins_cgroup import devices, knobs
from mom_plugins_cgroup.files import Files, error_of
from mom_plugins_cgroup.names import CONTROL_NAMES, CPU_WEIGHT, IO_MAX, LIST_CONTROLS, MEMORY_CONTROLS, RECLAIM
from mom_toolkit import UNIFIED, Hierarchies

_V1_CONTROLLERS = {"memory": "memory", "cpu": "cpu", "io": "blkio"}


class ControlGroup(NamedTuple):
    """A folder, and whether it belongs to the unified hierarchy (v2)."""

    folder: str
    unified: bool


class GuestGroups(NamedTuple):
    """A guest's groups by `memory`, `cpu` and `io`; `pressure` is the folder where the kernel counts what its tasks wait for."""

    by_controller: Mapping[str, ControlGroup]
    pressure: str | None

    def group_of(self, control: str) -> ControlGroup | None:
        """The group that a control is set in."""
        return self.by_controller.get(knobs.CONTROLLER[control])


NOTHING_KNOWN = GuestGroups({}, None)


def groups_of(property_: Value, hierarchies: Hierarchies, files: Files) -> GuestGroups:
    """The groups that a guest's property `cgroups` names: by controller, with the empty name for the unified hierarchy."""
    paths = property_ if isinstance(property_, Mapping) else {}
    found: dict[str, ControlGroup] = {}
    pressure = _folder(hierarchies, UNIFIED, paths)
    if pressure is not None:
        content = files.read(f"{pressure}/cgroup.controllers")
        found = {name: ControlGroup(pressure, unified=True) for name in (content or b"").decode(errors="replace").split()}
    for controller, name in _V1_CONTROLLERS.items():
        folder = _folder(hierarchies, name, paths)
        if folder is not None:
            found.setdefault(controller, ControlGroup(folder, unified=False))
    return GuestGroups({name: group for name, group in found.items() if name in _V1_CONTROLLERS}, pressure)


def _folder(hierarchies: Hierarchies, controller: str, paths: Mapping[str, Value]) -> str | None:
    path = paths.get(controller)
    return hierarchies.folder(controller, path) if isinstance(path, str) else None


def hindrance(control: str, groups: GuestGroups) -> str:
    """Why this control cannot be set on a guest with these groups; empty if it can."""
    group = groups.group_of(control)
    if group is None:
        return f"the guest has no control group of its own with the controller {knobs.CONTROLLER[control]}"
    return "" if group.unified else knobs.NOT_IN_V1.get(control, "")


def present(control: str, group: ControlGroup, files: Files) -> Value:
    """What a control stands at; None where it is unknown."""
    if control in LIST_CONTROLS:
        return _present_list(control, group, files)
    name = (knobs.FILES_V2 if group.unified else knobs.FILES_V1).get(control)
    text = files.read(f"{group.folder}/{name}") if name else None
    if text is None:
        return None
    return knobs.weight_percent(text, unified=group.unified) if control == CPU_WEIGHT else knobs.memory_kib(text)


def _present_list(control: str, group: ControlGroup, files: Files) -> Value:
    if group.unified:
        text = files.read(f"{group.folder}/{knobs.FILES_V2[control]}")
        return None if text is None else devices.parsed(control, text.decode(errors="replace"))
    if control != IO_MAX:
        return None
    texts: dict[str, str] = {}
    for key, name in devices.V1_FILES.items():
        text = files.read(f"{group.folder}/{name}")
        if text is None:
            return None
        texts[key] = text.decode(errors="replace")
    return devices.parsed_v1(texts)


def all_present(groups: GuestGroups, files: Files) -> dict[str, Value]:
    """What all controls but reclaim stand at, without those that are unknown."""
    found: dict[str, Value] = {}
    for control in CONTROL_NAMES:
        group = groups.group_of(control)
        if group is not None and control != RECLAIM:
            value = present(control, group, files)
            if value is not None:
                found[control] = value
    return found


def put(control: str, value: Value, group: ControlGroup, files: Files) -> None:
    """Write a value that was checked. Raises `HypervisorError`."""
    if control in MEMORY_CONTROLS:
        assert isinstance(value, int)  # noqa: S101  # review and the core see to that
        name = (knobs.FILES_V2 if group.unified else knobs.FILES_V1)[control]
        _write(files, f"{group.folder}/{name}", knobs.memory_text(value, unified=group.unified), wait=False)
    elif control == CPU_WEIGHT:
        assert isinstance(value, int | float)  # noqa: S101  # as above
        name = (knobs.FILES_V2 if group.unified else knobs.FILES_V1)[control]
        _write(files, f"{group.folder}/{name}", str(knobs.weight_number(value, unified=group.unified)))
    else:
        _put_list(control, value, group, files)


def _put_list(control: str, value: Value, group: ControlGroup, files: Files) -> None:
    now, wanted = (devices.by_device(control, one) for one in (_present_list(control, group, files), value))
    for device in {**now, **wanted}:
        limits, standing = (found.get(device, devices.free(control)) for found in (wanted, now))
        if limits == standing:
            continue
        if group.unified:
            _write(files, f"{group.folder}/{knobs.FILES_V2[control]}", devices.line_of(control, device, limits))
            continue
        for key, number in limits.items():
            if number != standing[key]:
                _write(files, f"{group.folder}/{devices.V1_FILES[key]}", f"{device} {max(0, number)}")  # 0 takes it away


def _write(files: Files, path: str, text: str, *, wait: bool = True) -> None:
    try:
        files.write(path, text, wait=wait)
    except OSError as error:
        raise error_of(error, path, text) from error
