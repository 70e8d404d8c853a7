"""The kernel's own watch for memory pressure: a file descriptor that becomes ready when tasks have waited too long for memory."""

from __future__ import annotations

import errno
import os
import select
from contextlib import suppress
from pathlib import Path

from mom_kvm import Helper

_MICROSECONDS = 1_000_000

WINDOW_SECONDS = 1.0
"""Over which time waiting is counted. The kernel looks ten times in a window, and tells at most once in one; this is the time within which
a guest should be helped. Windows are from 0.5 to 10 s."""

_CURES = {
    errno.ENOENT: "this kernel has no pressure stall information",
    errno.EOPNOTSUPP: "pressure stall information is switched off",
    errno.EINVAL: "windows of less than 2 s need CAP_SYS_RESOURCE, or mom-helper",
    errno.EPERM: "it needs CAP_SYS_RESOURCE, or mom-helper",
}


_MEMORY = Path("/proc/pressure/memory")
"""This host's own, for which mom-helper makes triggers."""

_NEED_POWER = {errno.EPERM, errno.EACCES, errno.EINVAL}
"""What kernels say to a process without CAP_SYS_RESOURCE: older ones that it may not, newer ones that the window is none for it."""


class NoTrigger(Exception):
    """Why the kernel does not watch for us."""


class StallTrigger:
    """A trigger on one file of /proc/pressure; `poll` it for `select.POLLPRI` by its `fileno()`.

    Source: Documentation/accounting/psi.rst. Without CAP_SYS_RESOURCE the kernel takes windows of whole multiples of 2 s only, and looks
    once in 2 s: too late to be of use here. A process that lacks it has mom-helper make the trigger and hand it over.
    """

    events = select.POLLPRI

    def __init__(self, path: Path, stall_seconds: float, window_seconds: float = WINDOW_SECONDS) -> None:
        self._fd = -1
        stall, window = round(stall_seconds * _MICROSECONDS), round(window_seconds * _MICROSECONDS)
        try:
            try:
                self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                if os.fstat(self._fd).st_size:
                    raise OSError(errno.ENOTTY, "it is no file of the kernel's")  # those have no size; this must not be written to
                os.write(self._fd, b"some %d %d\0" % (stall, window))
            except OSError as error:
                helper = Helper.reached() if path == _MEMORY and error.errno in _NEED_POWER else None
                if helper is None:
                    raise
                self.close()
                self._fd = helper.pressure(stall, window)
        except OSError as error:
            self.close()
            raise NoTrigger(_CURES.get(error.errno or 0, error.strerror)) from error

    def fileno(self) -> int:
        """The descriptor to be polled."""
        return self._fd

    def close(self) -> None:
        """End the watch."""
        file, self._fd = self._fd, -1
        with suppress(OSError):
            os.close(file)
