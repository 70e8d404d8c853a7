"""Reading and writing the files of control groups, with what the kernel says turned into errors that mom knows."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Protocol

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied
from mom_toolkit import write_kernel_file

_LONGEST_BYTES = 64 << 10
"""memory.stat, the longest, has 2 KiB."""


class Files(Protocol):
    """The kernel's files, or what stands in for them in a test."""

    def read(self, path: str) -> bytes | None:
        """What stands in it; None where it cannot be read."""
        ...

    def write(self, path: str, text: str, *, wait: bool = True) -> None:
        """Write it at once. Raises `OSError` as the kernel does.

        :param wait: whether to wait for what the kernel does about it, where that can be chosen
        """
        ...


class KernelFiles:
    """The real ones."""

    def read(self, path: str) -> bytes | None:
        """What stands in it, in one read. An empty file is not unknown: of io.max, it says that there is no limit."""
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(file, _LONGEST_BYTES)
        except OSError:  # memory.pressure with psi=0, a group that was removed meanwhile
            return None
        finally:
            os.close(file)

    def write(self, path: str, text: str, *, wait: bool = True) -> None:
        """One write. With `wait` False, a newer kernel (memory.high) leaves the reclaim to the group's own tasks."""
        write_kernel_file(path, text, wait=wait)


def error_of(error: OSError, path: str, text: str) -> HypervisorError:
    """What a failed write means.

    :param path: of the file, in the group's folder
    """
    folder, _, name = path.rpartition("/")
    if error.errno in {errno.ENOENT, errno.ENODEV} and not Path(folder).is_dir():
        return GuestGone("its control group is gone")
    if error.errno == errno.ENOENT:
        return NotSupported(f"its control group has no {name}")
    if error.errno in {errno.ENODEV, errno.ENXIO}:
        return NotSupported(f"there is no whole disk of that number for {name}", hint="see lsblk; a partition has no limits of its own")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionDenied(f"{name} may not be written by this process", hint="run mom as root, outside of containers")
    if error.errno == errno.EROFS:
        return PermissionDenied(f"{name} is mounted read-only", hint="mount the cgroup file system read-write")
    if error.errno in {errno.EAGAIN, errno.EBUSY, errno.EINTR}:
        return GuestBusy(f"the kernel could not do all of {text} in {name} now")
    if error.errno in {errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP}:
        return NotSupported(f"the kernel does not take {text} in {name}")
    return HypervisorError(f"{name}: {error.strerror}")
