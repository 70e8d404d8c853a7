"""A guest's control group: fields, controls and files, and findings about control groups.

mom uses the whole guest's group, not libvirt's groups below it, because the kernel protects memory only against sibling groups.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import (
    ControlSpec,
    FieldSpec,
    Finding,
    Guest,
    GuestBusy,
    GuestGone,
    Hypervisor,
    HypervisorError,
    NotSupported,
    PermissionDenied,
    Refused,
    Scope,
    Severity,
    Unit,
    Value,
    first_names,
    printable,
)
from mom_kvm import Helper, Hierarchies, listed_guests, pid_of, read_kernel_file, unwritable_finding

CURRENT: Final = "cgroup_memory_current"
ANON: Final = "cgroup_memory_anon"
FILE: Final = "cgroup_memory_file"
SHMEM: Final = "cgroup_memory_shmem"
LOCKED: Final = "cgroup_memory_locked"
SWAP: Final = "cgroup_swap_current"
STALL: Final = "host_psi_memory_some_avg10"
"""Field with the share of the last ten seconds in which a task of the guest waited for memory (%)."""

MEMORY_HIGH: Final = "cgroup_memory_high"
MEMORY_LOW: Final = "cgroup_memory_low"
MEMORY_MIN: Final = "cgroup_memory_min"
SWAP_MAX: Final = "cgroup_swap_max"

NO_LIMIT: Final = -1
"""Value that stands for `max` in the kernel's files."""

KNOBS: Final = {
    MEMORY_HIGH: ("memory.high", "above this, the kernel reclaims memory of the guest and slows it down; -1: no limit"),
    MEMORY_LOW: ("memory.low", "below this, the kernel reclaims memory of the guest only as a last resort; -1: protect all of it"),
    MEMORY_MIN: ("memory.min", "below this, the kernel never reclaims memory of the guest; -1: protect all of it"),
    SWAP_MAX: ("memory.swap.max", "limit of the guest's memory in the host's swap; -1: no limit"),
}


def _field(name: str, description: str, source: str) -> FieldSpec:
    return FieldSpec(name, Unit.KIB, Scope.GUEST, description, source)


FIELDS: Final = (
    _field(CURRENT, "host memory that the guest's cgroup holds: guest, QEMU and caches", "memory.current"),
    _field(ANON, "anonymous memory in cgroup_memory_current; most of a guest's memory is anonymous", "memory.stat anon"),
    _field(FILE, "page cache in cgroup_memory_current", "memory.stat file"),
    _field(SHMEM, "shared memory in cgroup_memory_file, which the kernel can reclaim only to swap", "memory.stat shmem"),
    _field(LOCKED, "unreclaimable part of cgroup_memory_current, such as memory that devices access directly", "memory.stat unevictable"),
    _field(SWAP, "memory of the guest's cgroup in the host's swap", "memory.swap.current"),
    *(_field(name, description, file) for name, (file, description) in KNOBS.items()),
)

# The controls have no bounds: mom refuses an impossible limit, rather than set a bound that nobody intended.
CONTROLS: Final = tuple(
    ControlSpec(name, Unit.KIB, Scope.GUEST, description, name, file=file) for name, (file, description) in KNOBS.items()
)


_STAT: Final = {ANON: "anon", FILE: "file", SHMEM: "shmem", LOCKED: "unevictable"}


class GuestGroup(NamedTuple):
    """Folder of a guest's control group, and PID of the guest's QEMU (0: unknown)."""

    folder: str
    pid: int


def group_of(guest: Guest, hierarchies: Hierarchies) -> GuestGroup | None:
    """Return the guest's control group (v2); None if unknown."""
    folder = hierarchies.group_of(guest)
    return None if folder is None else GuestGroup(folder, pid_of(guest) or 0)


def group_fields(folder: str) -> dict[str, Value]:
    """Return those memory sizes and limits of a control group that are known, in KiB."""
    stat = dict(line.split(" ", 1) for line in _text(folder, "memory.stat").splitlines() if " " in line)
    sizes = {name: _kib(stat.get(word, "")) for name, word in _STAT.items()}
    sizes |= {name: _kib(_text(folder, file)) for name, file in ((CURRENT, "memory.current"), (SWAP, "memory.swap.current"))}
    sizes |= {control: limit_of(control, folder) for control in KNOBS}
    return {name: size for name, size in sizes.items() if size is not None}


def limit_of(control: str, folder: str) -> int | None:
    """Return a control's value in KiB (`NO_LIMIT` for max); None if unknown."""
    text = _text(folder, KNOBS[control][0])
    return NO_LIMIT if text == "max" else _kib(text)


def limit_write(control: str, kib: int, group: GuestGroup) -> Helper.GroupWrite:
    """Return the file write that sets a control."""
    return Helper.GroupWrite(f"{group.folder}/{KNOBS[control][0]}", "max" if kib == NO_LIMIT else str(kib << 10), group.pid)


def explained(error: HypervisorError, write: Helper.GroupWrite) -> HypervisorError:
    """Rephrase the kernel's refusal for an operator."""
    file, text = Path(write.path), write.text
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if not file.parent.is_dir():
        return GuestGone("its control group is gone")
    if number == errno.ESRCH:
        return GuestGone("its process is gone")
    if number in {errno.EAGAIN, errno.EBUSY, errno.EINTR}:
        return GuestBusy(f"the kernel could not fully set {file.name} to {text} now")
    if number in {errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP}:
        return NotSupported(f"the kernel rejects {text} in {file.name}")
    return Refused(error.message, hint=error.hint) if isinstance(error, PermissionDenied) else error


def _text(folder: str, file: str) -> str:
    return read_kernel_file(f"{folder}/{file}").decode("ascii", "replace").strip()


def _kib(text: str) -> int | None:
    return int(text) >> 10 if text.isdigit() and len(text) < 20 else None


SUBJECT = "control groups"
_NO_GROUP_CURE = "run the guests under qemu:///system, and add 'memory' to cgroup_controllers in /etc/libvirt/qemu.conf"


def findings(hierarchies: Hierarchies, hypervisor: Hypervisor | None, *, observes: bool) -> Iterable[Finding]:
    """Yield findings about mounts, guests without control groups of their own, and unwritable controls."""
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
        message = f"the memory controller uses cgroups v1 ({memory.folder}), but limits need cgroups v2"
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
    # A parent group without protection cancels the protection of the guests in it.
    top = hierarchies.top(Hierarchies.UNIFIED) or ""
    folders = dict.fromkeys(folder.rpartition("/")[0] for guest in guests if (folder := hierarchies.group_of(guest)) is not None)
    for folder in folders:
        if folder != top and read_kernel_file(f"{folder}/memory.low").strip() == b"0":
            parent = folder.removeprefix(top)
            message = f"memory.low of {printable(parent)} is 0: memory.low and memory.min of guests in it have no effect"
            unit = parent.rpartition("/")[2]
            slice_cure = f"systemctl set-property {unit} MemoryLow=… (at least the sum of its guests' limits)"
            yield Finding(Severity.WARNING, SUBJECT, message, slice_cure if unit.endswith(".slice") else "raise this memory.low")
