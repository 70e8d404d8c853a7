"""A guest's control group: where it is, what the kernel counts of it, and its files of memory.

What is read and set is the group of the whole guest, above those that libvirt makes in it for the emulator and the vCPUs: protection only
means something among the groups of all guests, which are siblings there, and limits hold for all that the guest's processes use.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from mom_core import Guest, GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, Refused, Value
from mom_kvm import GroupWrite, Hierarchies, pid_of, read_kernel_file
from mom_plugins_host.cgroup.fields import ANON, CURRENT, FILE, KNOBS, LOCKED, NO_LIMIT, SHMEM, SWAP

_STAT: Final = {ANON: "anon", FILE: "file", SHMEM: "shmem", LOCKED: "unevictable"}


class GuestGroup(NamedTuple):
    """The folder of a guest's group, and the process of its QEMU, 0 where that is not known."""

    folder: str
    pid: int


def group_of(guest: Guest, hierarchies: Hierarchies) -> GuestGroup | None:
    """The group (cgroups v2) that a guest's property `cgroups` names; None: it has none."""
    paths = guest.properties.get("cgroups")
    path = paths.get(Hierarchies.UNIFIED) if isinstance(paths, Mapping) else None
    folder = hierarchies.folder(Hierarchies.UNIFIED, path) if isinstance(path, str) else None
    return None if folder is None else GuestGroup(folder, pid_of(guest) or 0)


def group_fields(folder: str) -> dict[str, Value]:
    """The memory that a group holds, and what its controls stand at; without what is unknown."""
    stat = dict(line.split(" ", 1) for line in _text(folder, "memory.stat").splitlines() if " " in line)
    sizes = {name: _kib(stat.get(word, "")) for name, word in _STAT.items()}
    sizes |= {name: _kib(_text(folder, file)) for name, file in ((CURRENT, "memory.current"), (SWAP, "memory.swap.current"))}
    sizes |= {control: limit_of(control, folder) for control in KNOBS}
    return {name: size for name, size in sizes.items() if size is not None}


def limit_of(control: str, folder: str) -> int | None:
    """The KiB that a control stands at; None where it is unknown."""
    text = _text(folder, KNOBS[control][0])
    return NO_LIMIT if text == "max" else _kib(text)


def limit_write(control: str, kib: int, group: GuestGroup) -> GroupWrite:
    """What sets a control."""
    return GroupWrite(f"{group.folder}/{KNOBS[control][0]}", "max" if kib == NO_LIMIT else str(kib << 10), group.pid)


def explained(error: HypervisorError, write: GroupWrite) -> HypervisorError:
    """The meaning of the kernel's refusal for a control group."""
    file, text = Path(write.path), write.text
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if not file.parent.is_dir():
        return GuestGone("its control group is gone")
    if number == errno.ESRCH:
        return GuestGone("its process is gone")
    if number in {errno.EAGAIN, errno.EBUSY, errno.EINTR}:
        return GuestBusy(f"the kernel could not do all of {text} in {file.name} now")
    if number in {errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP}:
        return NotSupported(f"the kernel does not take {text} in {file.name}")
    return Refused(error.message, hint=error.hint) if isinstance(error, PermissionDenied) else error


def _text(folder: str, file: str) -> str:
    return read_kernel_file(f"{folder}/{file}").decode("ascii", "replace").strip()


def _kib(text: str) -> int | None:
    return int(text) >> 10 if text.isdigit() and len(text) < 20 else None
