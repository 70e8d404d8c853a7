"""Who may have a connection, that each is served by a process of its own, and the log of all of them."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from typing import Final

from mom_helper.kernel import Allowance, libc, read_at
from mom_helper.work import PAUSE_SECONDS, Work, attend, peer_of

MOST_CONNECTIONS: Final = 8
_CONNECTIONS_PER_SECOND: Final = 5
_PR_SET_PDEATHSIG: Final = 1


class OrderLog:
    """Lines on standard error, 20 a second and 500 at once; the next one says how many were left out.

    What is not read is left out, too: no order waits for a log.
    """

    def __init__(self) -> None:
        self._allowance, self._left_out, self._errors = Allowance(20, seconds=25), 0, select.poll()
        self._errors.register(2, select.POLLOUT)

    def __call__(self, text: str) -> None:
        """Say it."""
        if not self._allowance.take() or self._errors.poll(0) != [(2, select.POLLOUT)]:
            self._left_out += 1
            return
        more = f" ({self._left_out} lines more were left out)" if self._left_out else ""
        self._left_out = 0
        os.write(2, text.encode("ascii", "backslashreplace").replace(b"\n", b" ")[:500] + more.encode() + b"\n")


def serve(listener: socket.socket, work: Work) -> None:
    """Serve until the process is ended. It returns in a process that has served a connection, when that has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # of a process that has ended, nothing is left
    new, children = Allowance(_CONNECTIONS_PER_SECOND, seconds=4), f"/proc/self/task/{os.getpid()}/children"
    gc.collect()
    gc.freeze()  # the copies share what is there now
    while True:
        connection, _ = listener.accept()
        with connection:
            if peer_of(connection)[1] != work.user or len(read_at(None, children).split()) >= MOST_CONNECTIONS or not new.take():
                time.sleep(PAUSE_SECONDS)
                continue
            try:
                pid = os.fork()
            except OSError as error:  # there is no room for another process now
                work.log(f"a connection was not served: {error.strerror}")
                continue
            if pid == 0:
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                listener.close()
                return attend(connection, work.follow, work.log)
