"""Queries to many monitors at once, from one thread.

A monitor serves one client at a time; others wait. So mom sends nothing before QEMU's greeting, and disconnects after the answers.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from mom_kvm import Address, PeerCredentials
from mom_plugins_qemu.wire import Answer, Conversation, WireError

_GREETING_SECONDS: Final = 0.25
"""How long mom waits in a socket's backlog for QEMU's greeting."""

HOLD_SECONDS: Final = 0.4
"""Longest time from the first attempt to connect to a monitor until its last answer. Other clients wait meanwhile."""

_ROUND_SECONDS: Final = 0.9
"""Longest duration of a round. The next cycle begins with the skipped monitors."""

_MOST_OPEN: Final = 64
"""Maximum number of connections at a time. With 256, fewer busy monitors answer in a round (benchmarks/qemu)."""

_SWEEP_SECONDS: Final = 0.01
"""Pause between checks for timeouts."""

_READ_BYTES: Final = 64 << 10


class Failure(StrEnum):
    """Reason why a query was not answered."""

    ABSENT = "nothing listens on its monitor's socket"
    DENIED = "mom's user has no permission to connect to its monitor"
    OCCUPIED = "its monitor is used by another client, or has hung"
    LATE = "its monitor did not answer in time"
    GARBLED = "its monitor does not speak QMP"
    FOREIGN = "another user's process listens on its monitor's socket"
    STRANGER = "another process listens on its monitor's socket"
    UNKNOWN = "the process that listens on its monitor's socket is unknown"
    FALSE = "its monitor gives impossible answers"
    LEFT = "mom had no time for its monitor in this cycle"


@dataclass(slots=True, eq=False)
class Visit:
    """Queries to one monitor, and later their `answers` or the `failure`.

    `expected` is the only PID that mom may query. `process` is the PID that listens. Each is 0 if unknown.
    """

    path: str
    questions: tuple[bytes, int]
    expected: int = 0
    process: int = 0
    answers: Sequence[Answer] | None = None
    failure: Failure | None = None
    why: str = ""

    def fail(self, failure: Failure, why: str = "") -> None:
        """Record a failure."""
        self.failure, self.why = failure, why


@dataclass(slots=True, eq=False)
class _Open:
    visit: Visit
    sock: socket.socket
    began: float
    conversation: Conversation
    asked: bool = False


def visit_all(visits: Iterable[Visit], monotonic: Callable[[], float] = time.monotonic, users: Set[int] | None = None) -> None:
    """Make the visits, which start in order and run concurrently. Each visit stores its answers or failure.

    :param users: IDs of the users whose QEMU processes mom may query; None for all users
    """
    waiting = deque(visits)
    full: list[tuple[Visit, float]] = []
    """Visits to monitors with a full backlog, each with the time of the first attempt to connect."""
    began = monotonic()
    open_: dict[int, _Open] = {}
    sweep_at = began + _SWEEP_SECONDS
    with select.epoll() as poll:

        def connect(visit: Visit, first: float) -> None:
            sock = _connected(visit, users)
            if sock is not None:
                open_[sock.fileno()] = _Open(visit, sock, first, Conversation(visit.questions[1]))
                poll.register(sock.fileno(), select.EPOLLIN)
            elif visit.failure is Failure.OCCUPIED:
                full.append((visit, first))

        try:
            while waiting or open_ or full:
                while waiting and len(open_) < _MOST_OPEN:
                    now = monotonic()
                    if now - began > _ROUND_SECONDS - HOLD_SECONDS:
                        waiting.popleft().fail(Failure.LEFT)
                    else:
                        connect(waiting.popleft(), now)
                for number, _ in poll.poll(_SWEEP_SECONDS):
                    if _over(open_[number]):
                        open_.pop(number).sock.close()
                now = monotonic()
                if now >= sweep_at:
                    sweep_at = now + _SWEEP_SECONDS
                    for number in [number for number, connected in open_.items() if _late(connected, now)]:
                        open_.pop(number).sock.close()
                    again, full = full, []
                    for visit, first in again:
                        if monotonic() - first <= _GREETING_SECONDS:  # mom-helper may be slow
                            connect(visit, first)
        finally:
            for connected in open_.values():
                connected.sock.close()


def _connected(visit: Visit, users: Set[int] | None) -> socket.socket | None:
    # `OCCUPIED` means that the backlog is full.
    try:
        sock = Address(path=visit.path).connect()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        number = error.errno if isinstance(error, OSError) else None
        visit.fail(_CONNECTING.get(number or 0, Failure.ABSENT), str(error))
        return None
    peer = PeerCredentials.of(sock)
    if users is not None and peer.user not in users:
        visit.fail(Failure.FOREIGN, f"the socket belongs to user {peer.user}")
        sock.close()
        return None
    failure = _who_listens(sock, peer)
    visit.process = 0 if failure else peer.process
    if not failure and visit.expected and visit.process != visit.expected:
        failure = Failure.STRANGER
    if failure:
        visit.fail(failure)
        sock.close()
        return None
    visit.failure = None
    return sock


_SO_PEERPIDFD: Final = 77
"""Socket option of Linux 6.5 that returns a pidfd of the peer."""


def _who_listens(sock: socket.socket, peer: PeerCredentials) -> Failure | None:
    """Return why it is uncertain that the peer called listen(); None if it did, or if the kernel is too old to confirm this."""
    if not peer.process:  # outside mom's container
        return Failure.UNKNOWN
    try:
        handle = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        try:
            info = Path(f"/proc/self/fdinfo/{handle}").read_bytes()
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno in {errno.ENOPROTOOPT, errno.EINVAL}:
            return None
        return _CONNECTING.get(error.errno or 0, Failure.STRANGER)  # usually the process has exited
    # Another process may have the PID of a listener that has exited.
    return None if f"\nPid:\t{peer.process}\n".encode() in info else Failure.STRANGER


_CONNECTING: Final = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), Failure.DENIED),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), Failure.LEFT),  # too many open files
    **dict.fromkeys((errno.ENOTCONN, errno.ETIMEDOUT), Failure.LEFT),  # mom-helper is restarting
    errno.EAGAIN: Failure.OCCUPIED,
}


def _over(connected: _Open) -> bool:
    visit, conversation = connected.visit, connected.conversation
    try:
        data = connected.sock.recv(_READ_BYTES)
        if not data:
            visit.fail(Failure.LATE if conversation.greeted else Failure.OCCUPIED, "the connection was closed")
            return True
        if conversation.feed(data):
            if not connected.asked:
                raise WireError("answers came before the queries")
            visit.answers = conversation.result()
            return True
        if conversation.greeted and not connected.asked:
            connected.asked = True
            if connected.sock.send(visit.questions[0]) != len(visit.questions[0]):
                visit.fail(Failure.LATE, "it does not accept the queries")
                return True
    except WireError as error:
        visit.fail(Failure.GARBLED, str(error))
        return True
    except BlockingIOError:
        return False
    except OSError as error:  # QEMU has exited, or the previous client closed the monitor
        visit.fail(Failure.LATE if conversation.greeted else Failure.OCCUPIED, str(error))
        return True
    return False


def _late(connected: _Open, now: float) -> bool:
    is_late = now - connected.began > (HOLD_SECONDS if connected.conversation.greeted else _GREETING_SECONDS)
    if is_late:
        connected.visit.fail(Failure.LATE if connected.conversation.greeted else Failure.OCCUPIED)
    return is_late
