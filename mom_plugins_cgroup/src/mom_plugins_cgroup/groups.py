"""A guest's control group: where it is, what the kernel counts of it, and its files of memory.

What is read and set is the group of the whole guest, above those that libvirt makes in it for the emulator and the vCPUs: protection only
means something among the groups of all guests, which are siblings there, and limits hold for all that the guest's processes use.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied, Refused, Value
from mom_plugins_cgroup.fields import ANON, CURRENT, FILE, KNOBS, LOCKED, NO_LIMIT, SHMEM, SWAP
from mom_toolkit import Hierarchies, read_kernel_file, write_file

_STAT: Final = {ANON: "anon", FILE: "file", SHMEM: "shmem", LOCKED: "unevictable"}


def folder_of(property_: Value, hierarchies: Hierarchies) -> str | None:
    """Where the group (cgroups v2) is that a guest's property `cgroups` names; None: it has none."""
    path = property_.get(Hierarchies.UNIFIED) if isinstance(property_, Mapping) else None
    return hierarchies.folder(Hierarchies.UNIFIED, path) if isinstance(path, str) else None


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


def set_limit(control: str, kib: int, folder: str, write: Callable[[str, str], None]) -> None:
    """Set a control with the help of `write`, as `put` does it. Raises `HypervisorError`."""
    path, text = f"{folder}/{KNOBS[control][0]}", "max" if kib == NO_LIMIT else str(kib << 10)
    try:
        write(path, text)
    except HypervisorError as error:
        raise _explained(error, Path(path), text) from error.__cause__


def put(path: str, text: str) -> None:
    """Write a file of a group at once; newer kernels leave the reclaim that it needs to the group. Raises `HypervisorError`."""
    write_file(path, text, wait=False)


def _explained(error: HypervisorError, file: Path, text: str) -> HypervisorError:
    """The meaning of the kernel's refusal for a control group."""
    number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
    if not file.parent.is_dir():
        return GuestGone("its control group is gone")
    if number in {errno.EAGAIN, errno.EBUSY, errno.EINTR}:
        return GuestBusy(f"the kernel could not do all of {text} in {file.name} now")
    if number in {errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP}:
        return NotSupported(f"the kernel does not take {text} in {file.name}")
    return Refused(error.message, hint=error.hint) if isinstance(error, PermissionDenied) else error


def _text(folder: str, file: str) -> str:
    return read_kernel_file(f"{folder}/{file}").decode("ascii", "replace").strip()


def _kib(text: str) -> int | None:
    return int(text) >> 10 if text.isdigit() and len(text) < 20 else None
