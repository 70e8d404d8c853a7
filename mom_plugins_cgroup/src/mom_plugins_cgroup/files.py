"""Reading and writing the files of control groups, with what the kernel says turned into errors that mom knows."""

from __future__ import annotations

import errno
from pathlib import Path

from mom_core import GuestBusy, GuestGone, HypervisorError, NotSupported, PermissionDenied
from mom_toolkit import read_kernel_file, write_kernel_file


class Files:
    """The kernel's files. A test may stand in for what the kernel makes of a write."""

    def read(self, path: str) -> bytes:
        """What stands in it, in one read; empty where it cannot be read."""
        return read_kernel_file(path)

    def write(self, path: str, text: str) -> None:
        """Write it at once; newer kernels do not wait for the reclaim that it needs (memory.high). Raises `HypervisorError`."""
        try:
            self.put(path, text)
        except OSError as error:
            raise error_of(error, path, text) from error

    def put(self, path: str, text: str) -> None:
        """The write itself. Raises `OSError`."""
        write_kernel_file(path, text, wait=False)


def error_of(error: OSError, path: str, text: str) -> HypervisorError:
    """What a failed write means.

    :param path: of the file, in the group's folder
    """
    folder, _, name = path.rpartition("/")
    if error.errno in {errno.ENOENT, errno.ENODEV} and not Path(folder).is_dir():
        return GuestGone("its control group is gone")
    if error.errno == errno.ENOENT:
        return NotSupported(f"its control group has no {name}")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionDenied(f"{name} may not be written by this process", hint="run mom as root, outside of containers")
    if error.errno == errno.EROFS:
        return PermissionDenied(f"{name} is mounted read-only", hint="mount the cgroup file system read-write")
    if error.errno in {errno.EAGAIN, errno.EBUSY, errno.EINTR}:
        return GuestBusy(f"the kernel could not do all of {text} in {name} now")
    if error.errno in {errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP}:
        return NotSupported(f"the kernel does not take {text} in {name}")
    return HypervisorError(f"{name}: {error.strerror}")
