"""PSI trigger: a file descriptor that is ready when tasks waited too long for memory."""

from __future__ import annotations

import errno
import os
import select
from contextlib import suppress
from pathlib import Path

from mom_kvm import Helper

_MICROSECONDS = 1_000_000

WINDOW_SECONDS = 1.0
"""The kernel allows 0.5 to 10 s and reports at most once per window. A guest should get help within one window."""

_CURES = {
    errno.ENOENT: "this kernel has no pressure stall information",
    errno.EOPNOTSUPP: "pressure stall information is switched off",
    errno.EINVAL: "windows of less than 2 s need CAP_SYS_RESOURCE, or mom-helper",
    errno.EPERM: "it needs CAP_SYS_RESOURCE, or mom-helper",
}


_MEMORY = Path("/proc/pressure/memory")

_UNPRIVILEGED = {errno.EPERM, errno.EACCES, errno.EINVAL}
"""Errors without CAP_SYS_RESOURCE: older kernels deny the trigger, newer ones reject its window."""


class NoTrigger(Exception):
    """The kernel provides no trigger."""


class StallTrigger:
    """Trigger on a file of /proc/pressure; `poll` its `fileno()` for `select.POLLPRI`.

    Without CAP_SYS_RESOURCE, the kernel checks only every 2 s (Documentation/accounting/psi.rst). That is too late, so mom-helper makes the
    trigger.
    """

    events = select.POLLPRI

    def __init__(self, path: Path, stall_seconds: float, window_seconds: float = WINDOW_SECONDS) -> None:
        self._fd = -1
        stall, window = round(stall_seconds * _MICROSECONDS), round(window_seconds * _MICROSECONDS)
        try:
            try:
                self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                if os.fstat(self._fd).st_size:
                    raise OSError(
                        errno.ENOTTY, "the pressure file is not a file of the kernel"
                    )  # kernel files have no size; mom writes to no other file
                os.write(self._fd, b"some %d %d\0" % (stall, window))
            except OSError as error:
                helper = Helper.reached() if path == _MEMORY and error.errno in _UNPRIVILEGED else None
                if helper is None:
                    raise
                self.close()
                self._fd = helper.pressure(stall, window)
        except OSError as error:
            self.close()
            raise NoTrigger(_CURES.get(error.errno or 0, error.strerror)) from error

    def fileno(self) -> int:
        """Return the descriptor for `poll`."""
        return self._fd

    def close(self) -> None:
        """Remove the trigger."""
        file, self._fd = self._fd, -1
        with suppress(OSError):
            os.close(file)
