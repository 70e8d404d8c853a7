"""Visits to many monitors at once, from one thread: connect, ask everything in one go, leave.

A monitor serves one client at a time, and the others wait in line. So nothing is sent before QEMU's greeting has come: where another client
is served, mom leaves the line after a moment, and nothing of it is left to be carried out later. Once greeted, it leaves with its answers,
a few milliseconds later. A QEMU that is short of CPU time takes longer: then mom leaves with those that have come, lets others in who wait,
and comes back for the rest.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from mom_kvm import PeerCredentials, ProcessStat, connect_to_guest
from mom_plugins_qemu.monitors import listens
from mom_plugins_qemu.wire import Answer, Conversation, Question, WireError, request

GREETING_SECONDS: Final = 0.25
"""How long to stand in line for a monitor that another client holds, or whose QEMU hangs."""

STAY_SECONDS: Final = 0.05
"""How long to keep a monitor from others: a client that comes meanwhile is to wait for 100 ms at most, and time runs out late by a sweep,
and by what the host's CPUs have to do before."""

HOLD_SECONDS: Final = 0.4
"""How long to try for all answers, from when it was connected first: a QEMU that takes longer is left to others."""

ROUND_SECONDS: Final = 0.9
"""How long all visits together may take, however many hang: the guests whose turn did not come are asked first in the next cycle."""

_MOST_OPEN: Final = 64
"""Connections at a time. On a host that is short of CPU time each of them is served the sooner the fewer there are, and mom stays only so
long: of 1,000 stand-ins, 744 answered in a round then, and 343 with 256 connections (benchmarks/qemu)."""

_SWEEP_SECONDS: Final = 0.01
"""How often to look whose time is up."""

_READ_BYTES: Final = 64 << 10


class Failure(StrEnum):
    """Why a visit brought no answers."""

    ABSENT = "nothing listens on its monitor's socket"
    DENIED = "this user may not connect to its monitor"
    OCCUPIED = "its monitor is held by another client, or hangs"
    LATE = "its monitor did not answer in time"
    GARBLED = "its monitor answers what is no QMP"
    FOREIGN = "another user's process listens on its monitor's socket"
    STRANGER = "another process listens on its monitor's socket"
    UNTOLD = "it cannot be told which process listens on its monitor's socket"
    FALSE = "its monitor says what cannot be true"
    LEFT = "its turn did not come in this round"


@dataclass(slots=True, eq=False)
class Visit:
    """One visit: where to, and what to ask (`prepared` questions); afterwards what came of it.

    Where `expected` is given, another process is asked nothing; `started` is when that one was, in the kernel's ticks, 0 where that is not
    known. `process` is the id of the process that listens, by the kernel's word; 0 where it is not known. Either `answers` is there, one
    for each question, or `failure`.
    """

    path: str
    questions: tuple[bytes, int]
    expected: int = 0
    started: int = 0
    process: int = 0
    answers: Sequence[Answer] | None = None
    failure: Failure | None = None
    why: str = ""
    """More about the failure, for the log."""
    stays: list[tuple[float, float]] = field(default_factory=list)
    """From when to when others were kept waiting, in monotonic seconds."""
    _known: list[Answer] = field(default_factory=list)

    def conversation(self) -> Conversation:
        """A fresh one, for those of this visit's questions that have no answer yet."""
        return Conversation(self.questions[1] - len(self._known), len(self._known))

    def to_send(self) -> bytes:
        """The questions of that conversation."""
        if not self._known:
            return self.questions[0]
        first, *others = self.questions[0].splitlines(keepends=True)
        return b"".join((first, *others[len(self._known) :]))

    def keep(self, answers: Sequence[Answer]) -> None:
        """These have come so far; the rest is asked of the same process."""
        self._known += answers
        self.expected = self.process

    def finish(self, answers: Sequence[Answer]) -> None:
        """These were the last."""
        self.answers = [*self._known, *answers]

    def fail(self, failure: Failure, why: str = "") -> None:
        """It has come to nothing."""
        self.failure, self.why = failure, why


def prepared(questions: Sequence[Question]) -> tuple[bytes, int]:
    """Questions as they are asked: what to send, and how many they are. Good for many visits."""
    return request(questions), len(questions)


@dataclass(slots=True, eq=False)
class _Open:
    """A visit that is under way: connected at `since`, and for the first time at `began`; others wait for it from `greeted` on."""

    visit: Visit
    sock: socket.socket
    since: float
    began: float
    conversation: Conversation
    greeted: float = 0.0

    def close(self, now: float) -> None:
        """Leave."""
        self.sock.close()
        if self.greeted:
            self.visit.stays.append((self.greeted, now))


def visit_all(visits: Iterable[Visit], monotonic: Callable[[], float] = time.monotonic, users: Set[int] | None = None) -> None:
    """Make these visits, in this order, many at a time.

    :param users: the ids of the users whose processes are asked something; None: of all
    """
    waiting = deque(visits)
    away: list[tuple[Visit, float]] = []
    began = monotonic()
    open_: dict[int, _Open] = {}
    sweep_at = began + _SWEEP_SECONDS
    with select.epoll() as poll:

        def connect(visit: Visit, now: float, first: float) -> None:
            sock = _connected(visit, users)
            if sock is not None:
                open_[sock.fileno()] = _Open(visit, sock, now, first, visit.conversation())
                poll.register(sock.fileno(), select.EPOLLIN)
            elif visit.failure is Failure.OCCUPIED:
                away.append((visit, first))

        try:
            while waiting or open_ or away:
                while waiting and len(open_) < _MOST_OPEN:
                    now = monotonic()
                    if now - began > ROUND_SECONDS - HOLD_SECONDS:
                        waiting.popleft().fail(Failure.LEFT)
                    else:
                        connect(waiting.popleft(), now, now)
                for number, _ in poll.poll(_SWEEP_SECONDS):
                    if _over(open_[number], monotonic):
                        open_.pop(number).close(monotonic())
                now = monotonic()
                if now >= sweep_at:
                    sweep_at = now + _SWEEP_SECONDS
                    again, away = away, []
                    for number, one in list(open_.items()):
                        if _late(one, now):
                            open_.pop(number).close(now)
                            if one.visit.failure is Failure.LATE:
                                again.append((one.visit, one.began))
                    for visit, first in again:
                        patience = GREETING_SECONDS if visit.failure is Failure.OCCUPIED else HOLD_SECONDS - STAY_SECONDS
                        now = monotonic()  # mom-helper may take long for each
                        if now - first <= patience:
                            connect(visit, now, first)
        finally:
            for one in open_.values():
                one.close(monotonic())


def _connected(visit: Visit, users: Set[int] | None) -> socket.socket | None:
    """A connection to the process that is expected; otherwise the visit has failed. `OCCUPIED`: as many as may stand in line do."""
    try:
        sock = connect_to_guest(visit.path)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        number = error.errno if isinstance(error, OSError) else None
        visit.fail(_CONNECTING.get(number or 0, Failure.ABSENT), str(error))
        return None
    peer = PeerCredentials.of(sock)
    if users is not None and peer.user not in users:
        visit.fail(Failure.FOREIGN, f"it belongs to user {peer.user}")
        sock.close()
        return None
    failure = _who_listens(sock, peer, visit)
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
"""Linux 6.5; a handle of the peer's process, which the socket module does not name yet."""


def _who_listens(sock: socket.socket, peer: PeerCredentials, visit: Visit) -> Failure | None:
    """None: the process of that number is still the one that called listen(). Otherwise why it is not: another one may have the number.

    Without handles of peers (before Linux 6.5), it must be of the same user, or one that root has become, and be older than the socket's
    file, or have that socket open. The file's time is the wall clock's, and the process's is not: where that clock was set forward since,
    the file seems to be older than it is. So one that was seen to listen before is not asked for its age again.
    """
    if not peer.process:  # it is outside of the container in which mom is
        return Failure.UNTOLD
    try:
        handle = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        try:
            told = Path(f"/proc/self/fdinfo/{handle}").read_bytes()
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in {errno.ENOPROTOOPT, errno.EINVAL}:
            return _CONNECTING.get(error.errno or 0, Failure.STRANGER)  # as a rule, the process has ended
    else:
        return None if f"\nPid:\t{peer.process}\n".encode() in told else Failure.STRANGER
    try:
        users = re.search(rb"^Uid:\t\d+\t(\d+)", (_PROC / str(peer.process) / "status").read_bytes(), re.MULTILINE)
        stat = ProcessStat.parse((_PROC / str(peer.process) / "stat").read_bytes())
        listened = time.time() - Path(visit.path).stat().st_mtime
    except OSError as error:
        return _CONNECTING.get(error.errno or 0, Failure.STRANGER)  # as above
    if users is None or stat is None or peer.user not in {0, int(users[1])}:
        return Failure.STRANGER
    if visit.started and (peer.process, stat.started) == (visit.expected, visit.started):
        return None
    age = stat.age(_PROC)
    if age is not None and listened <= age + _SLACK_SECONDS:
        return None
    found = listens(_PROC, peer.process, visit.path)
    return Failure.UNTOLD if found is None else None if found else Failure.STRANGER


_PROC: Final = Path("/proc")

_SLACK_SECONDS: Final = 2.0
"""A process's start is known in hundredths of a second, and clocks are set by less than this while nobody notices."""

_CONNECTING: Final = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), Failure.DENIED),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), Failure.LEFT),  # no more files may be open
    **dict.fromkeys((errno.ENOTCONN, errno.ETIMEDOUT), Failure.LEFT),  # mom-helper is just being started anew
    errno.EAGAIN: Failure.OCCUPIED,
}


def _over(one: _Open, monotonic: Callable[[], float]) -> bool:
    """Read what has come; True if the visit is over."""
    visit, conversation = one.visit, one.conversation
    try:
        data = one.sock.recv(_READ_BYTES)
        if not data:
            visit.fail(Failure.LATE if conversation.greeted else Failure.OCCUPIED, "the connection was closed")
            return True
        if conversation.feed(data):
            if not one.greeted:
                raise WireError("answers came to what was not asked yet")
            visit.finish(conversation.result())
            return True
        if conversation.greeted and not one.greeted:
            one.greeted = monotonic()
            asked = visit.to_send()
            if one.sock.send(asked) != len(asked):
                visit.fail(Failure.LATE, "it does not take what is asked")
                return True
    except WireError as error:
        visit.fail(Failure.GARBLED, str(error))
        return True
    except BlockingIOError:
        return False
    except OSError as error:  # QEMU has ended, or the client that was served before took the monitor down
        visit.fail(Failure.LATE if conversation.greeted else Failure.OCCUPIED, str(error))
        return True
    return False


def _late(one: _Open, now: float) -> bool:
    """Tell if it is time to leave; what has come so far is kept."""
    if one.greeted:
        if now - one.greeted > STAY_SECONDS:
            one.visit.keep(one.conversation.result())
            one.visit.fail(Failure.LATE)
            return True
    elif now - one.since > GREETING_SECONDS or now - one.began > HOLD_SECONDS:
        one.visit.fail(Failure.OCCUPIED)
        return True
    return False
