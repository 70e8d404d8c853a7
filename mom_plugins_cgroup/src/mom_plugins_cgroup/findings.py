"""What `mom doctor` says about control groups."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mom_core import Finding, Guest, Hypervisor, HypervisorError, PluginContext, Severity, printable
from mom_plugins_cgroup import knobs
from mom_plugins_cgroup.files import Files
from mom_plugins_cgroup.groups import ControlGroup, GuestGroups, groups_of
from mom_plugins_cgroup.host import memory_of
from mom_plugins_cgroup.names import CONTROL_NAMES, CPU_WEIGHT, IO_LATENCY, RECLAIM
from mom_plugins_cgroup.review import LIBVIRTS_WEIGHT
from mom_plugins_cgroup.settings import CgroupSettings
from mom_toolkit import UNIFIED, Hierarchies

SUBJECT = "control groups"
_MOST_NAMES = 5
_NO_GROUP_CURE = (
    "run the guests under qemu:///system, with the controllers memory, cpu and blkio among cgroup_controllers in /etc/libvirt/qemu.conf"
)


def findings(
    context: PluginContext, hierarchies: Hierarchies, files: Files, hypervisor: Hypervisor | None, settings: CgroupSettings
) -> Iterable[Finding]:
    """Which hierarchies there are, which guests have groups of their own, what cannot be set, and who else sets it."""
    hierarchies.refresh()
    yield _about_mounts(hierarchies)
    if LIBVIRTS_WEIGHT in context.declarations.controls:
        message = f"the plugin {context.declarations.control_owners.get(LIBVIRTS_WEIGHT, 'qos')} sets the same CPU weight through libvirt"
        cure = f"decide {LIBVIRTS_WEIGHT} or {CPU_WEIGHT} for a guest, never both: where both are decided, {LIBVIRTS_WEIGHT} is set"
        yield Finding(Severity.WARNING, SUBJECT, message, cure)
    if hypervisor is None:
        yield Finding(Severity.WARNING, SUBJECT, "guests were not looked at: no hypervisor was reached")
        return
    try:
        guests = hypervisor.guests()
    except HypervisorError as error:
        yield Finding(Severity.ERROR, SUBJECT, f"the guests cannot be looked at: {error}", "see what the hypervisor plugin says above")
        return
    groups = {guest.id: groups_of(guest.properties.get("cgroups"), hierarchies, files) for guest in guests}
    yield from _about_guests(guests, groups)
    yield from _about_controls(list(groups.values()))
    yield from _about_protection(hierarchies, files, guests)
    if settings.reclaim and not memory_of(context.root, files).swap_free_kib:
        cure = "add a swap device (zram is one), or switch `reclaim` off"
        yield Finding(Severity.WARNING, SUBJECT, "reclaim is on, and the host has no free swap: a guest's memory has nowhere to go", cure)


def _about_mounts(hierarchies: Hierarchies) -> Finding:
    unified = hierarchies.mount_of(UNIFIED)
    memory = hierarchies.mount_of("memory")
    mounts = [mount for mount in (unified, memory) if mount is not None]
    if not mounts:
        return Finding(Severity.ERROR, SUBJECT, "no cgroup file system is mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    if not mounts[-1].writable:
        cure = "mount it read-write, or run mom outside of the container"
        return Finding(Severity.ERROR, SUBJECT, f"{mounts[-1].folder} is mounted read-only: nothing can be set", cure)
    if memory is not None:
        message = f"cgroups v1 are mounted at {memory.folder}: only soft limits of memory, CPU weights and I/O limits can be set"
        return Finding(Severity.WARNING, SUBJECT, message, "boot with systemd.unified_cgroup_hierarchy=1 for all the others")
    return Finding(Severity.OK, SUBJECT, f"cgroups v2 are mounted at {mounts[0].folder}")


def _about_guests(guests: Sequence[Guest], groups: Mapping[str, GuestGroups]) -> Iterable[Finding]:
    without = [guest for guest in guests if not groups[guest.id].by_controller]
    if len(guests) > len(without):
        yield Finding(Severity.OK, SUBJECT, f"{len(guests) - len(without)} of {len(guests)} guests have groups of their own")
    if without:
        names = ", ".join(printable(guest.name) for guest in without[:_MOST_NAMES])
        more = f" and {len(without) - _MOST_NAMES} more" if len(without) > _MOST_NAMES else ""
        yield Finding(Severity.WARNING, SUBJECT, f"guests without a group of their own with any controller: {names}{more}", _NO_GROUP_CURE)


def _about_controls(groups: Sequence[GuestGroups]) -> Iterable[Finding]:
    """What the kernel lacks or does not let mom write, looked at on the first guest that has a group for it."""
    for control in CONTROL_NAMES:
        group = next((found for one in groups if (found := one.group_of(control)) is not None), None)
        if group is None or (not group.unified and control in knobs.NOT_IN_V1):
            continue
        path = _file_of(control, group)
        if not Path(path).exists():
            yield Finding(Severity.WARNING, SUBJECT, f"{control} cannot be set: there is no {path}", _MISSING_CURES.get(control, ""))
        elif not os.access(path, os.W_OK):
            yield Finding(Severity.ERROR, SUBJECT, f"{control} cannot be set: {path} is not writable", "run mom as root")


_MISSING_CURES = {
    RECLAIM: "use Linux 5.19 or later",
    IO_LATENCY: "use a kernel with CONFIG_BLK_CGROUP_IOLATENCY",
}


def _file_of(control: str, group: ControlGroup) -> str:
    if group.unified:
        return f"{group.folder}/{knobs.FILES_V2[control]}"
    return f"{group.folder}/{knobs.FILES_V1.get(control, 'blkio.throttle.read_bps_device')}"


def _about_protection(hierarchies: Hierarchies, files: Files, guests: Sequence[Guest]) -> Iterable[Finding]:
    """What a guest's group protects counts only as far as the groups above protect it, too."""
    above = {}
    for guest in guests:
        paths = guest.properties.get("cgroups")
        path = paths.get(UNIFIED) if isinstance(paths, Mapping) else None
        if isinstance(path, str) and path.count("/") > 1:
            parent = path.rpartition("/")[0]
            above[parent] = hierarchies.folder(UNIFIED, parent)
    for parent, folder in above.items():
        low = None if folder is None else files.read(f"{folder}/memory.low")
        if low is not None and knobs.memory_kib(low) == 0:
            message = f"memory.low of {printable(parent)} is 0: what guests in it protect (memory.low, memory.min) has no effect"
            unit = parent.rpartition("/")[2]
            cure = (
                f"systemctl set-property {unit} MemoryLow=… (as much as its guests together)" if unit.endswith(".slice") else "set it too"
            )
            yield Finding(Severity.WARNING, SUBJECT, message, cure)
