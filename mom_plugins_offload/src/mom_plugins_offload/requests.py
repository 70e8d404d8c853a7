"""Requests to the taker, a process of its own: it is started when there is something to do, and ended with mom, however mom ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mom_helper
from mom_core import HypervisorError
from mom_helper.orders import ORDER, Order
from mom_helper.taker import AT_ONCE, MOST_REQUESTS, Reason, Way, messages, records_in
from mom_toolkit import Helper, Hierarchies

_PROGRAM: Final = Path(mom_helper.__file__).parent

_SEND_SECONDS: Final = 1.0
"""It reads whenever it is not busy, and then at once."""

_END_SECONDS: Final = 0.15
"""How long the taker may take to end by itself, and again when it is killed: then the kernel ends what it has under way."""

_WAYS: Final = {"v2": Way.V2, "v1": Way.V1, "process": Way.PROCESS, "recall": Way.RECALL}

_REASONS: Final[Mapping[int, str]] = {
    Reason.NONE: "",
    Reason.NO_MORE: "the kernel found no more to take",
    Reason.HOLDS_TOO_LITTLE: "its group holds too little",
    Reason.HAS_ENDED: "its process has ended",
    Reason.NO_LARGE_MEMORY: "its process has no large memory",
    Reason.TIME_IS_OVER: "the time was over",
    Reason.NO_MORE_IN_SWAP: "there was no more in swap",
}


@dataclass(slots=True)
class ReclaimRequest:
    """Move so much (`left`, KiB) of a guest by this way; and the result: what `went` (KiB), and why it ended before all had gone (empty:
    all had). `at` is where a walk through the guest goes on."""

    guest: str
    way: str
    left: int
    pid: int = 0
    started: int = 0
    at: int = 0
    went: int = 0
    why: str = ""


class ReclaimTaker:
    """The process and the socket to it. Not to be used by two threads at a time; no call waits for the kernel."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sent: Sequence[ReclaimRequest] = ()
        self._busy = False

    @property
    def busy(self) -> bool:
        """True while it is at work on the last requests."""
        return self._busy

    @property
    def pid(self) -> int | None:
        """The process, where this started it itself and it runs."""
        return None if self._process is None else self._process.pid

    def send(self, requests: Sequence[ReclaimRequest], seconds: float, cpu_seconds: float) -> None:
        """Have these followed, all together in no more than that time, and with no more CPU time than that.

        Raises `HypervisorError` when there is no taker for it.
        """
        if self._socket is None:
            self._start()
        sent = requests[:MOST_REQUESTS]
        orders = [Order(_WAYS[one.way], number, one.left, one.at, one.pid, one.started) for number, one in enumerate(sent)]
        orders.append(Order(Way.GO, 0, int(seconds * 1e6), int(cpu_seconds * 1e6)))
        assert self._socket is not None  # noqa: S101  # it was started
        try:
            self._socket.settimeout(_SEND_SECONDS)
            for message in messages(orders):
                self._socket.send(message)
            self._socket.setblocking(False)  # with a timeout, to look for answers would wait for one as long
        except OSError as error:
            self.close()
            raise HypervisorError(f"the process that takes memory has ended: {error.strerror or error}") from error
        self._sent, self._busy = sent, True

    def answers(self) -> Iterator[Sequence[ReclaimRequest]]:
        """The results of requests that have come since the last call. A taker that has ended is started anew with the next request."""
        while self._socket is not None:
            try:
                message = self._socket.recv(ORDER.size * AT_ONCE)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self.close()
                return
            yield list(self._results(message))

    def _results(self, message: bytes) -> Iterator[ReclaimRequest]:
        for result in records_in(message):
            if result.number == Way.GO:
                self._busy = False
            elif result.id < len(self._sent):
                one = self._sent[result.id]
                one.went, one.at = result.a, result.b
                one.why = os.strerror(-result.c) if result.c < 0 else _REASONS.get(result.c, "")
                yield one

    def close(self) -> None:
        """End it. What it has taken stays; nothing else is left of it."""
        process, taker, self._process, self._socket, self._sent, self._busy = self._process, self._socket, None, None, (), False
        if taker is not None:
            taker.close()
        if process is None:
            return
        for end in (process.kill, None):
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                if end is None:  # it waits for a disk that does not answer; it ends when that does
                    return
                end()

    def _start(self) -> None:
        """By mom-helper where this process is not root. Raises `HypervisorError`."""
        helper = Helper.reached()
        try:
            if helper is not None:
                self._socket = helper.taker()
                return
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                # -I, -S: nothing that the environment or the current folder names is imported.
                command = [sys.executable, "-I", "-S", str(_PROGRAM), "taker", *_where_groups_are()]
                self._process = subprocess.Popen(command, stdin=theirs.fileno(), cwd="/", start_new_session=True)
        except OSError as error:
            self.close()
            raise HypervisorError(f"the process that takes memory cannot be started: {error.strerror or error}") from error


def _where_groups_are() -> Iterator[str]:
    """Options that say where the paths of control groups begin, as this process sees them: in a container, at its own group."""
    hierarchies = Hierarchies(Path("/"))
    hierarchies.refresh()
    for option, controller in (("--unified", Hierarchies.UNIFIED), ("--memory", "memory")):
        folder = hierarchies.folder(controller, "/")
        if folder is not None:
            yield from (option, folder)
