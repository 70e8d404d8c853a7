"""Execution of requests. It trusts only root's declarations and the kernel."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from mom_helper.before import Before
from mom_helper.declarations import Declared
from mom_helper.guests import HIERARCHIES, UNIFIED, Guests
from mom_helper.kernel import Allowance, opened
from mom_helper.libvirt_orders import GuestOrder
from mom_helper.orders import MOST_AT_ONCE, ORDER, PROCESS_FILES, Order, OrderNumber
from mom_helper.taker import WAYS, move_piece, step_back

_SCORES: Final = range(1001)
"""Values of `oom_score_adj` that mom may set. Lower values would protect a process from the OOM killer."""

PAUSE_SECONDS: Final = 0.005
"""A client above its rate limit waits this long between checks, to save CPU time."""

File = TypeVar("File")


class Done(NamedTuple):
    """Result of a request: values, text, and descriptors for mom. `error` is an errno, 0 for success."""

    a: int = 0
    b: int = 0
    c: int = 0
    text: bytes = b""
    descriptors: Sequence[int] = ()
    error: int = 0


AnyOrder = TypeVar("AnyOrder", bound=Order | GuestOrder)


class Work:
    """Executor of requests from mom's user."""

    def __init__(self, declared: Declared, before: Before, log: Callable[[str], None], user: int) -> None:
        self._before, self.log, self.user = before, log, user
        self._files, self._rules = list(declared.files.values()), list(declared.rules.values())
        self._orders, self._pieces = Allowance(declared.orders, seconds=3), Allowance(declared.orders, seconds=3)
        self._guests = Guests(self._rules, HIERARCHIES, Allowance(declared.reclaim_bytes, seconds=2))
        self._ways: dict[int, Callable[..., Done]] = dict.fromkeys(WAYS, lambda order: Done(*move_piece(order, self._guests)))
        self._ways |= {OrderNumber.LIST: self._list, OrderNumber.SET: self._set, OrderNumber.OPEN: self._open}
        self._ways |= {OrderNumber.CONNECT: self._connect, OrderNumber.SCORE: self._score}
        self._ways |= {OrderNumber.PUT_BACK: lambda _: Done(*before.put_back(log)), OrderNumber.STEP_BACK: lambda _: Done(step_back())}

    def attend(self, connection: socket.socket) -> None:
        """Execute a connection's requests."""
        attend(connection, self.follow, self.log, parsed)

    def follow(self, order: Order, descriptors: list[int]) -> Done:
        """Wait for the rate limit, and execute a request. Raise `OSError` if it is refused or fails."""
        while not (self._pieces if order.number in WAYS else self._orders).take():
            time.sleep(PAUSE_SECONDS)
        if order.number not in self._ways or len(descriptors) != (order.number == OrderNumber.CONNECT):
            raise OSError(errno.EINVAL, "the request is unknown, or has a wrong number of descriptors")
        return self._ways[order.number](order, *descriptors)

    def _list(self, order: Order) -> Done:
        return Done(text=numbered(self._files, order.a).name.encode(errors="surrogateescape"))

    def _set(self, order: Order) -> Done:
        file, folder = numbered(self._files, order.a), None
        path = file.name
        if not path.startswith("/"):
            folder, group = self._guests.find(order.c, None).group(UNIFIED)
            if os.fstat(folder).st_ino != order.d:
                raise ProcessLookupError(errno.ESRCH, "the process with this PID is in another control group")
            path = f"{group}/{path}"
        previous = self._before.write(path, folder, order.b, allowed=file.allows(order.b))
        self.log(f"{path}: {order.b}, was {previous}")
        return Done()

    def _open(self, order: Order) -> Done:
        name, folder = numbered(PROCESS_FILES, order.a), self._guests.find(order.c, order.d).folder
        return Done(descriptors=[os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)])

    def _score(self, order: Order) -> Done:
        if order.a not in _SCORES:
            raise OSError(errno.ERANGE, "the score is not from 0 to 1000")
        with opened("oom_score_adj", os.O_WRONLY, self._guests.find(order.c, order.d).folder) as file:
            os.write(file, b"%d" % order.a)
        self.log(f"process {order.c}: oom_score_adj {order.a}")
        return Done()

    def _connect(self, _: Order, file: int) -> Done:
        # The socket belongs to QEMU's user. QEMU listens on it, or libvirt as root.
        status = os.fstat(file)
        if not stat.S_ISSOCK(status.st_mode) or not any(status.st_uid in rule.users for rule in self._rules):
            raise OSError(errno.EPERM, "the file is not a socket of a guest's user")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as connection:
            connection.connect(f"/proc/self/fd/{file}")
            pid, user = peer_of(connection)
            if user != 0 or status.st_uid == 0:
                self._guests.find(pid, None)
            connection.setblocking(True)
            self.log(f"connected to a socket of user {status.st_uid}, process {pid}")
            return Done(descriptors=[connection.detach()])


def numbered(files: Sequence[File], number: int) -> File:
    """Return the item at the index `number`. Raise `OSError` if there is none."""
    if not 0 <= number < len(files):
        raise OSError(errno.ENOENT, "no item has this number")
    return files[number]


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Return the PID and user ID of a connection's peer."""
    pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return pid, user


def parsed(message: bytes) -> list[Order]:
    """Return a message's requests: one of any kind, or several SET requests. Raise `struct.error` if it is malformed."""
    orders = [Order(*words) for words in ORDER.iter_unpack(message)]
    if not orders or (len(orders) > 1 and any(order.number != OrderNumber.SET for order in orders)):
        raise struct.error("the message contains no valid requests")
    return orders


def attend(
    connection: socket.socket,
    follow: Callable[[AnyOrder, list[int]], Done],
    log: Callable[[str], None],
    orders_in: Callable[[bytes], Sequence[AnyOrder]],
) -> None:
    """Execute the requests of a connection until the connection ends or a message is malformed.

    :param follow: executes a request, or raises `OSError`
    :param orders_in: returns the requests in a message, or raises `struct.error`
    """
    with suppress(ConnectionError, struct.error):  # the peer has disconnected, or its message is no request
        while True:
            message, received, _, _ = socket.recv_fds(connection, MOST_AT_ONCE * ORDER.size + 1, 2, socket.MSG_CMSG_CLOEXEC)
            result, answers = Done(), b""
            try:
                for order in orders_in(message):
                    try:
                        result = follow(order, received)
                    except OSError as failure:
                        result = Done(error=failure.errno or errno.EIO)
                        if order.number != OrderNumber.LIST:  # ENOENT ends every list
                            log(f"refused: {order}: {failure.strerror}")
                    answers += ORDER.pack(order.id, result.error, result.a, result.b, result.c, 0)
                socket.send_fds(connection, [answers, result.text], result.descriptors)
            finally:
                for descriptor in (*received, *result.descriptors):
                    os.close(descriptor)
