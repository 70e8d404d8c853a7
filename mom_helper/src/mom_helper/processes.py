"""Processes that the helper starts: a copy of itself for each connection, so that nothing that a client does keeps another one waiting."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import traceback
from collections.abc import Callable
from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG: Final = 1


def forked(work: Callable[[], None], unused: socket.socket) -> int:
    """The id of a new process that does this, and ends then, or with its parent.

    :param unused: what it closes
    """
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            unused.close()
            if os.getppid() == parent:  # it has not ended before that
                work()
            status = 0
        except BaseException:  # noqa: BLE001  # whatever it was, this process is not to go on as its parent
            traceback.print_exc(limit=-4)
        finally:
            os._exit(status)
    return pid
