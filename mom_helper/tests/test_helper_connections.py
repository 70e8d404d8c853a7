"""Accepted connections and survived errors of the helper's loop, with simulated processes."""

import gc
import os
import signal
import socket
import time
from types import SimpleNamespace

import pytest

from mom_helper import __main__ as program
from mom_helper.__main__ import MOST_CONNECTIONS, serve


class Ended(Exception):
    """Raised when no more connections come."""


class Kernel:
    """Simulated kernel: connections or errors, and running children."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.script: list[OSError | int] = []
        self.running: set[int] = set()
        self.served = 0
        self.said: list[str] = []
        for module, name, stand_in in (
            (signal, "signal", lambda *_: None),
            (gc, "freeze", lambda: None),
            (time, "sleep", lambda _: None),
            (os, "fork", self.fork),
            (os, "waitpid", self.waitpid),
        ):
            monkeypatch.setattr(module, name, stand_in)

    def accept(self) -> tuple[socket.socket, str]:
        """Raise the next error, or accept a connection after some children have ended."""
        if not self.script:
            raise Ended
        one = self.script.pop(0)
        if isinstance(one, OSError):
            raise one
        for _ in range(one):
            self.running.pop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        return ours, ""

    def fork(self) -> int:
        self.served += 1
        self.running.add(self.served)
        return self.served

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        assert options == os.WNOHANG
        if pid not in self.running:  # the kernel's answer if SIGCHLD is ignored
            raise ChildProcessError
        return 0, 0

    def serve(self, *script: OSError | int) -> int:
        """Return how many of these connections were served."""
        self.script = list(script)
        with pytest.raises(Ended):
            serve(self, SimpleNamespace(user=os.getuid(), log=self.said.append))  # type: ignore[arg-type]  # the two of both that it uses
        return self.served


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_there_are_only_so_many_connections_at_a_time_on_any_kernel(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all kernels have `/proc/PID/task/PID/children`."""
    monkeypatch.setattr(program, "read_at", lambda *_: (_ for _ in ()).throw(FileNotFoundError()), raising=False)
    assert kernel.serve(*[0] * (MOST_CONNECTIONS + 3), 2, 0, 0) == MOST_CONNECTIONS + 2


def test_a_connection_that_cannot_be_accepted_is_said_and_the_next_one_is_served(kernel: Kernel) -> None:
    assert kernel.serve(OSError(24, "Too many open files"), OSError(103, "Software caused connection abort"), 0) == 1
    assert kernel.said == [
        "a connection was not accepted: Too many open files",
        "a connection was not accepted: Software caused connection abort",
    ]
