"""Walks through a guest's process, for guests whose memory cannot be taken by a control group. Pure, but for what /proc tells.

Requests to the taker, a process of its own: it is started when there is something to do, and ended with mom, however mom ends."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Final

import mom_helper
from mom_core import HypervisorError
from mom_helper.orders import MOST_PIECE_KIB, ORDER, Answer, Order, OrderNumber
from mom_kvm import Helper, Hierarchies, open_process_file

LEAST_AREA_KIB: Final = 16 << 10
"""Areas of a process that are larger hold a guest's memory; QEMU's own are smaller, and few."""

_MOST_AREAS: Final = 10_000

_STEP: Final = MOST_PIECE_KIB << 10


def areas_of(process: str) -> Sequence[tuple[int, int]]:
    """Where a process has large areas of memory that it may write: first and last address. Raises `OSError`.

    :param process: its folder in /proc
    """
    found: list[tuple[int, int]] = []
    with os.fdopen(open_process_file(process, "maps"), "rb") as file:
        for line in file:
            where, rights = line.split(None, 2)[:2]
            first, last = (int(word, 16) for word in where.split(b"-"))
            if rights.startswith(b"rw") and last - first >= LEAST_AREA_KIB << 10 and len(found) < _MOST_AREAS:
                found.append((first, last))
    return found


def steps_of(areas: Sequence[tuple[int, int]], at: int) -> Iterator[tuple[int, int]]:
    """The areas in steps (address, length in bytes), each once, from where the last walk ended. They are made one by one: a process may
    reserve terabytes of addresses.

    :param at: how many steps all walks have gone
    """
    steps = [range(first, last, _STEP) for first, last in areas]
    ends = list(accumulate(map(len, steps)))  # the number of the step that comes after each area
    count = ends[-1] if ends else 0
    start = at % count if count else 0
    for number in chain(range(start, count), range(start)):
        area = bisect_right(ends, number)
        first = steps[area][number - ends[area]]  # counted from the area's end
        yield first, min(_STEP, areas[area][1] - first)


_PROGRAM: Final = Path(mom_helper.__file__).parent

MOST_REQUESTS: Final = 10_000
"""At a time: the guests that a host may have."""

FIRST_BITE_SECONDS: Final = 0.01
LEAST_BITE_SECONDS: Final = 0.002
LONGEST_BITE_SECONDS: Final = 0.1
"""How long one bite may take where an amount cannot be said: by how fast the one before it went."""

_END_SECONDS: Final = 0.15
"""How long the taker may take to end by itself, and again when it is killed: then the kernel ends what it has under way."""

OUT_OF_TIME: Final = "the time was over"
"""Why a request ended that was not followed for long enough to say what the guest gives."""

_STUCK_SECONDS: Final = 60.0
"""Beyond the time that requests had. A piece takes a tenth of a second, and some seconds where the disk behind it is busy."""

_WAYS: Final = {"v2": OrderNumber.TAKE_V2, "v1": OrderNumber.TAKE_V1, "process": OrderNumber.TAKE_PROCESS, "recall": OrderNumber.RECALL}
_ENDED: Final = "its process has ended"
_ERRORS: Final = {errno.ESRCH: _ENDED, errno.ENODATA: "its group holds too little"}


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


class _Turn:
    """A request that is followed, piece by piece."""

    def __init__(self, request: ReclaimRequest) -> None:
        self.request = request
        self._no_more = "there was no more in swap" if request.way == "recall" else "the kernel found no more to take"
        self._walk = _walk(request, self._no_more)
        self._seconds = self._rate = 0.0

    def piece(self, ask: Callable[[Order], Answer], until: float) -> int:
        """Have one piece moved; the CPU time that it took, in microseconds. Raises `OSError` where there is nobody to ask."""
        request, began = self.request, time.monotonic()
        order = next(self._walk, None) if request.way in {"process", "recall"} else (request.left, int(self._bite(until - began) * 1e6))
        if order is None:
            return 0
        answer = ask(Order(_WAYS[request.way], 0, *order, request.pid, request.started))
        took = max(1e-6, time.monotonic() - began)
        self._rate, self._seconds = answer.a / took, self._seconds + took
        request.went, request.left = request.went + answer.a, request.left - answer.a
        if answer.error:
            request.why = _ERRORS.get(answer.error) or os.strerror(answer.error)
        elif not answer.b and request.left > 0:
            request.why = self._no_more
        return answer.c

    def _bite(self, left: float) -> float:
        """How long the next piece may take."""
        if self.request.way == "v2":
            return LONGEST_BITE_SECONDS
        wanted = self.request.left / self._rate if self._rate > 0 else FIRST_BITE_SECONDS
        bite = min(wanted, 2 * self._seconds or FIRST_BITE_SECONDS, LONGEST_BITE_SECONDS, left)
        return max(LEAST_BITE_SECONDS, bite)


def _walk(request: ReclaimRequest, no_more: str) -> Iterator[tuple[int, int]]:
    """How much is next, and from which address on, until nothing is, and the request says why."""
    try:
        areas = areas_of(f"/proc/{request.pid}")
    except FileNotFoundError:
        request.why = _ENDED
    except OSError as error:
        request.why = _ERRORS.get(error.errno or 0) or os.strerror(error.errno or 0)
    else:
        for address, length in steps_of(areas, request.at):
            request.at += 1
            yield length >> 10, address
        request.why = no_more if areas else "its process has no large memory"


def followed(requests: Sequence[ReclaimRequest], ask: Callable[[Order], Answer], seconds: float, cpu_seconds: float) -> None:
    """Have these moved. The guests take turns by pieces, so that a slow store costs all of them a little rather than one all.

    :param ask: gives the taker's answer to an order; raises `OSError` where it has ended, and then this does
    :param seconds: how long it may take
    :param cpu_seconds: how much CPU time of the taker it may take
    """
    until, cpu_us = time.monotonic() + seconds, cpu_seconds * 1e6
    turns = deque(_Turn(request) for request in requests if request.left > 0)
    while turns:
        turn = turns.popleft()
        if time.monotonic() >= until or cpu_us <= 0:
            turn.request.why = OUT_OF_TIME
            continue
        cpu_us -= turn.piece(ask, until)
        if turn.request.left > 0 and not turn.request.why:
            turns.append(turn)


class ReclaimTaker:
    """The process, and a thread that has it follow requests. Not to be used by two threads at a time; no call waits for the kernel."""

    def __init__(self) -> None:
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._sent: Sequence[ReclaimRequest] = ()
        self._until = 0.0
        self._has_ended = False

    @property
    def why_stuck(self) -> str:
        """Why nothing can be taken, as the last requests should have ended long ago; empty: they have, or may yet."""
        if self._thread is None or not self._thread.is_alive() or time.monotonic() < self._until + _STUCK_SECONDS:
            return ""
        return "the process that takes memory waits for the kernel: a disk with swap may not answer"

    @property
    def busy(self) -> bool:
        """True while it is at work on the last requests, and until their results were asked for."""
        return self._thread is not None

    def send(self, requests: Sequence[ReclaimRequest], seconds: float, cpu_seconds: float) -> None:
        """Have these followed, all together in no more than that time, and with no more CPU time than that.

        Raises `HypervisorError` when there is no taker for it.
        """
        if self._connection is None:
            self._start()
        self._sent, self._until, self._has_ended = requests[:MOST_REQUESTS], time.monotonic() + seconds, False
        work = (self._connection, self._sent, seconds, cpu_seconds)
        self._thread = threading.Thread(target=self._follow, args=work, name="mom-taker", daemon=True)
        self._thread.start()

    def answers(self) -> Sequence[ReclaimRequest]:
        """The results of the last requests, once all have come; until then, none. A taker that has ended is started anew with the next
        request."""
        if self._thread is None or self._thread.is_alive():
            return ()
        sent, self._thread, self._sent = self._sent, None, ()
        if self._has_ended:
            self.close()
        return sent

    def close(self) -> None:
        """End it. What it has taken stays; nothing else is left of it."""
        connection, thread, process = self._connection, self._thread, self._process
        self._connection, self._thread, self._process, self._sent = None, None, None, ()
        if connection is not None:
            with suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RDWR)  # the thread waits for an answer no more
            if thread is not None:
                thread.join(_END_SECONDS)
            connection.close()
        if process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
            return
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # it waits for a disk that does not answer; it ends when that does
            process.wait(_END_SECONDS)

    def _follow(self, connection: socket.socket, requests: Sequence[ReclaimRequest], seconds: float, cpu_seconds: float) -> None:
        def ask(order: Order) -> Answer:
            connection.send(ORDER.pack(*order))
            return Answer(*ORDER.unpack(connection.recv(ORDER.size)))

        try:
            followed(requests, ask, seconds, cpu_seconds)
        except (OSError, struct.error):
            self._has_ended = True

    def _start(self) -> None:
        """By mom-helper where this process is not root. Raises `HypervisorError`."""
        helper = Helper.reached()
        try:
            if helper is not None:
                self._connection = helper.taker()
                return
            self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
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
