"""Findings of `mom doctor` on control groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mom_core import Finding, Guest, Hypervisor, Severity, first_names, printable
from mom_kvm import Hierarchies, listed_guests, read_kernel_file, unwritable_finding
from mom_plugins_host.cgroup.groups import KNOBS, group_of

SUBJECT = "control groups"
_NO_GROUP_CURE = "run the guests under qemu:///system, with the controller memory among cgroup_controllers in /etc/libvirt/qemu.conf"


def findings(hierarchies: Hierarchies, hypervisor: Hypervisor | None, *, observes: bool) -> Iterable[Finding]:
    """Yield mounts, guests with their own groups, and unwritable controls."""
    hierarchies.refresh()
    yield _about_mounts(hierarchies)
    guests = yield from listed_guests(hypervisor, SUBJECT)
    if guests is None:
        return
    folders = {guest.id: group.folder for guest in guests if (group := group_of(guest, hierarchies)) is not None}
    yield from _about_guests(guests, folders, observes=observes)
    yield from _about_protection(hierarchies, guests)


def _about_mounts(hierarchies: Hierarchies) -> Finding:
    mount, memory = hierarchies.mount_of(Hierarchies.UNIFIED), hierarchies.mount_of("memory")
    if memory is not None:
        message = f"memory is a controller of cgroups v1, mounted at {memory.folder}: limits need cgroups v2"
        return Finding(Severity.ERROR, SUBJECT, message, "boot with systemd.unified_cgroup_hierarchy=1")
    if mount is None:
        return Finding(Severity.ERROR, SUBJECT, "no cgroup file system is mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    if not mount.writable:
        cure = "mount it read-write, or run mom outside of the container"
        return Finding(Severity.ERROR, SUBJECT, f"{mount.folder} is mounted read-only: mom cannot set limits", cure)
    return Finding(Severity.OK, SUBJECT, f"cgroups v2 are mounted at {mount.folder}")


def _about_guests(guests: Sequence[Guest], folders: Mapping[str, str], *, observes: bool) -> Iterable[Finding]:
    grouped = {guest.id for guest in guests if guest.id in folders and Path(folders[guest.id], "memory.current").exists()}
    if grouped:
        yield Finding(Severity.OK, SUBJECT, f"{len(grouped)} of {len(guests)} guests have control groups of their own")
    without = [guest.name for guest in guests if guest.id not in grouped]
    if without:
        message = f"guests that have no control group of their own with the memory controller: {first_names(without)}"
        yield Finding(Severity.WARNING, SUBJECT, message, _NO_GROUP_CURE)
    folder = next((folders[guest.id] for guest in guests if guest.id in grouped), None)
    for control, (file, _) in KNOBS.items() if folder is not None else ():
        if not Path(f"{folder}/{file}").exists():
            yield Finding(Severity.WARNING, SUBJECT, f"{control} cannot be set: there is no {folder}/{file}")
        elif unwritable := unwritable_finding(f"{folder}/{file}", SUBJECT, f"{control} cannot be set", observes=observes):
            yield unwritable


def _about_protection(hierarchies: Hierarchies, guests: Sequence[Guest]) -> Iterable[Finding]:
    # A parent group without protection cancels that of its guests.
    paths = [groups.get(Hierarchies.UNIFIED) for guest in guests if isinstance(groups := guest.properties.get("cgroups"), Mapping)]
    parents = dict.fromkeys(path.rpartition("/")[0] for path in paths if isinstance(path, str) and path.count("/") > 1)
    for parent in parents:
        folder = hierarchies.folder(Hierarchies.UNIFIED, parent)
        if folder is not None and read_kernel_file(f"{folder}/memory.low").strip() == b"0":
            message = f"memory.low of {printable(parent)} is 0: memory.low and memory.min of guests in it have no effect"
            unit = parent.rpartition("/")[2]
            slice_cure = f"systemctl set-property {unit} MemoryLow=… (as much as its guests together)"
            yield Finding(Severity.WARNING, SUBJECT, message, slice_cure if unit.endswith(".slice") else "set it too")
