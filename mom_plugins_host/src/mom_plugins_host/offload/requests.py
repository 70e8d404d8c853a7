"""Requests to the reclaim worker, a separate process that mom starts when needed."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import mom_helper
from mom_core import HypervisorError
from mom_helper.orders import MOST_PIECE_KIB, ORDER, Answer, Order, OrderNumber
from mom_kvm import Helper, Hierarchies, ProcessStat

LEAST_AREA_KIB: Final = 16 << 10
"""In a QEMU process, areas of at least this size contain the guest's memory. QEMU's own areas are smaller, except for translated code,
which is executable."""

_MOST_AREAS: Final = 10_000

_STEP: Final = MOST_PIECE_KIB << 10


def areas_of(process: str) -> Sequence[tuple[int, int]]:
    """Return bounds of the large writable data areas of `process`, a folder in /proc. Raise `OSError` if unreadable."""
    areas: list[tuple[int, int]] = []
    with os.fdopen(ProcessStat.open_file(process, "maps"), "rb") as file:
        for line in file:
            span, rights = line.split(None, 2)[:2]
            first, last = (int(word, 16) for word in span.split(b"-"))
            if rights.startswith(b"rw-") and last - first >= LEAST_AREA_KIB << 10 and len(areas) < _MOST_AREAS:
                areas.append((first, last))
    return areas


def steps_of(areas: Sequence[tuple[int, int]], at: int) -> Iterator[tuple[int, int]]:
    """Return each step (address, length in bytes) once, beginning with number `at`, modulo the number of steps."""
    # Do not list all steps: a process may reserve terabytes of addresses.
    count = sum(len(range(first, last, _STEP)) for first, last in areas)
    steps = ((address, min(_STEP, last - address)) for _ in range(2) for first, last in areas for address in range(first, last, _STEP))
    start = at % count if count else 0
    return islice(steps, start, start + count)


_PROGRAM: Final = Path(mom_helper.__file__).parent

MOST_REQUESTS: Final = 10_000
"""Maximum number of requests at a time: one per guest of the largest host."""

FIRST_PIECE_SECONDS: Final = 0.01
LEAST_PIECE_SECONDS: Final = 0.002
LONGEST_PIECE_SECONDS: Final = 0.1
"""Longest time to move a piece. Where mom cannot tell the kernel how much to reclaim, pieces start at `FIRST_PIECE_SECONDS`."""

_END_SECONDS: Final = 0.15

OUT_OF_TIME: Final = "the time for the request ran out"
"""`why` of a request that had too little time to show how much the guest can release."""

_STUCK_SECONDS: Final = 60.0
"""The worker counts as stuck this long after the time limit of its requests."""

_WAYS: Final = {"v2": OrderNumber.TAKE_V2, "v1": OrderNumber.TAKE_V1, "process": OrderNumber.TAKE_PROCESS}
_ENDED: Final = "its process has ended"
_NO_MORE: Final = "the kernel found no more memory to reclaim"
_ERRORS: Final = {errno.ESRCH: _ENDED, errno.ENODATA: "its control group has too little memory"}


@dataclass(slots=True)
class ReclaimRequest:
    """Request to move memory of a guest, and its result.

    :param way: `MemoryWay.name`
    :param left: KiB still to move
    :param at: next step of the walk through the process's memory
    :param went: KiB moved
    :param why: why `left` was not moved
    """

    guest: str
    way: str
    left: int
    pid: int = 0
    started: int = 0
    at: int = 0
    went: int = 0
    why: str = ""
    _seconds: float = 0.0
    _rate: float = 0.0
    _steps: Iterator[tuple[int, int]] | None = None

    def move_piece(self, ask: Callable[[Order], Answer], until: float) -> int:
        """Move a piece of the memory, and return the CPU time in microseconds. Raise `OSError` if the worker has ended."""
        began = time.monotonic()
        piece: tuple[int, int] | None = (self.left, int(self._piece_seconds(until - began) * 1e6))
        if self.way == "process":
            self._steps = self._steps or self._walk()
            piece = next(self._steps, None)
        if piece is None:
            return 0
        answer = ask(Order(_WAYS[self.way], 0, *piece, self.pid, self.started))
        took = max(1e-6, time.monotonic() - began)
        self._rate, self._seconds = answer.a / took, self._seconds + took
        self.went, self.left = self.went + answer.a, self.left - answer.a
        if answer.error:
            self.why = _ERRORS.get(answer.error) or os.strerror(answer.error)
        elif not answer.b and self.left > 0:
            self.why = _NO_MORE
        return answer.c

    def _piece_seconds(self, left: float) -> float:
        if self.way == "v2":
            return LONGEST_PIECE_SECONDS
        expected = self.left / self._rate if self._rate > 0 else FIRST_PIECE_SECONDS
        seconds = min(expected, 2 * self._seconds or FIRST_PIECE_SECONDS, LONGEST_PIECE_SECONDS, left)
        return max(LEAST_PIECE_SECONDS, seconds)

    def _walk(self) -> Iterator[tuple[int, int]]:
        try:
            areas = areas_of(f"/proc/{self.pid}")
        except FileNotFoundError:
            self.why = _ENDED
        except OSError as error:
            self.why = _ERRORS.get(error.errno or 0) or os.strerror(error.errno or 0)
        else:
            for address, length in steps_of(areas, self.at):
                self.at += 1
                yield length >> 10, address
            self.why = _NO_MORE if areas else "its process has no large memory area"


def follow(requests: Sequence[ReclaimRequest], ask: Callable[[Order], Answer], seconds: float, cpu_seconds: float) -> None:
    """Process requests. Guests take turns piece by piece, so that a slow store delays each guest only a little.

    :param ask: returns the worker's answer, or raises `OSError` if the worker has ended
    :param seconds: time limit for all requests together
    :param cpu_seconds: limit of CPU time for all requests together
    """
    until, cpu_us = time.monotonic() + seconds, cpu_seconds * 1e6
    turns = deque(request for request in requests if request.left > 0)
    while turns:
        request = turns.popleft()
        if time.monotonic() >= until or cpu_us <= 0:
            request.why = OUT_OF_TIME
            continue
        cpu_us -= request.move_piece(ask, until)
        if request.left > 0 and not request.why:
            turns.append(request)


class ReclaimWorker:
    """Separate process that moves memory. Only one thread at a time may use this class. No method waits for the kernel."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._sent: Sequence[ReclaimRequest] = ()
        self._until = 0.0
        self._has_ended = False

    @property
    def why_stuck(self) -> str:
        """Why requests are long overdue, or an empty string."""
        if self._thread is None or not self._thread.is_alive() or time.monotonic() < self._until + _STUCK_SECONDS:
            return ""
        return "the worker that reclaims memory hangs in the kernel: a disk with swap may not answer"

    @property
    def busy(self) -> bool:
        """True until `answers` has returned the last results."""
        return self._thread is not None

    def send(self, requests: Sequence[ReclaimRequest], seconds: float, cpu_seconds: float) -> None:
        """Start these requests. The limits apply to all requests together. Raise `HypervisorError` if the worker cannot start."""
        if self._connection is None:
            self._start()
        self._sent, self._until, self._has_ended = requests[:MOST_REQUESTS], time.monotonic() + seconds, False
        work = (self._connection, self._sent, seconds, cpu_seconds)
        self._thread = threading.Thread(target=self._follow, args=work, name="mom-reclaim", daemon=True)
        self._thread.start()

    def answers(self) -> Sequence[ReclaimRequest]:
        """Return the last requests with their results; none before all of them have ended."""
        if self._thread is None or self._thread.is_alive():
            return ()
        sent, self._thread, self._sent = self._sent, None, ()
        if self._has_ended:
            self.close()
        return sent

    def close(self) -> None:
        """End the worker. Memory stays in swap."""
        connection, thread, process = self._connection, self._thread, self._process
        self._connection, self._thread, self._process, self._sent = None, None, None, ()
        if connection is not None:
            with suppress(OSError):  # the worker has ended
                connection.shutdown(socket.SHUT_RDWR)  # ends the thread's wait for an answer
            if thread is not None:
                thread.join(_END_SECONDS)
            connection.close()
        if process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
            return
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # the worker waits for a disk, and ends when the disk answers
            process.wait(_END_SECONDS)

    def _follow(self, connection: socket.socket, requests: Sequence[ReclaimRequest], seconds: float, cpu_seconds: float) -> None:
        def ask(order: Order) -> Answer:
            connection.send(ORDER.pack(*order))
            return Answer(*ORDER.unpack(connection.recv(ORDER.size)))

        try:
            follow(requests, ask, seconds, cpu_seconds)
        except (OSError, struct.error):
            self._has_ended = True

    def _start(self) -> None:
        helper = Helper.reached()
        try:
            if helper is not None:
                self._connection = helper.taker()
                return
            self._connection, worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with worker_end:
                # -I, -S: imports ignore the environment and the current folder.
                command = [sys.executable, "-I", "-S", str(_PROGRAM), "taker", *_mount_options()]
                self._process = subprocess.Popen(command, stdin=worker_end.fileno(), cwd="/", start_new_session=True)
        except OSError as error:
            self.close()
            raise HypervisorError(f"the worker that reclaims memory cannot be started: {error.strerror or error}") from error


def _mount_options() -> Iterator[str]:
    # A container sees only its own control group.
    hierarchies = Hierarchies(Path("/"))
    hierarchies.refresh()
    for option, controller in (("--unified", Hierarchies.UNIFIED), ("--memory", "memory")):
        folder = hierarchies.folder(controller, "/")
        if folder is not None:
            yield from (option, folder)
