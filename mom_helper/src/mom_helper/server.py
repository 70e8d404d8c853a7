"""Connections: who may have one, and that each is served by a process of its own."""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
import struct
import time
from typing import Final

from mom_helper import taker
from mom_helper.kernel import Allowance, forked
from mom_helper.orders import ANSWER, MOST_TEXT, ORDER, Answer, Order, OrderNumber
from mom_helper.work import CREDENTIALS, Done, Work

MOST_CONNECTIONS: Final = 8
_CONNECTIONS_PER_SECOND: Final = 5
_SEND_TIMEOUT: Final = struct.pack("ll", 2, 0)
"""Seconds and microseconds that an answer may wait for a client that does not read."""

_REFUSED_SECONDS: Final = 0.005
"""How long a client waits that has ordered too much, so that it cannot keep a CPU busy."""

_NO_TIMEOUT: Final = struct.pack("ll", 0, 0)


def serve(listener: socket.socket, work: Work) -> None:
    """Serve until the process is ended."""
    listener.setblocking(False)
    new = Allowance(_CONNECTIONS_PER_SECOND, seconds=4)
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    children: dict[int, int] = {}
    gc.collect()
    gc.freeze()  # the copies share what is there now
    while True:
        for ready, _ in poller.poll():
            if ready in children:
                poller.unregister(ready)
                os.close(ready)
                os.waitpid(children.pop(ready), 0)
                continue
            try:
                connection, _ = listener.accept()
                with connection:
                    _, user, _ = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
                    if user != work.user or len(children) >= MOST_CONNECTIONS or not new.take():
                        time.sleep(_REFUSED_SECONDS)
                        continue
                    pid = forked(lambda: attend(connection, work))  # noqa: B023  # it is called at once
                child = os.pidfd_open(pid)
            except OSError as error:  # it has gone again; or there is no room for another process now
                work.log(f"a connection was not served: {error.strerror or error}")
                continue
            children[child] = pid
            poller.register(child, select.POLLIN)


def attend(connection: socket.socket, work: Work) -> None:
    """Follow the orders of one connection until it ends."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
    try:
        while _answer_one(connection, work):
            pass
    except OSError as error:
        work.log(f"a connection has ended: {error.strerror or error}")


def _answer_one(connection: socket.socket, work: Work) -> bool:
    """Follow one order; False when there are no more, or what comes is none."""
    message, received, _, _ = socket.recv_fds(connection, ORDER.size + 1, 2, socket.MSG_CMSG_CLOEXEC)
    done, error = Done(), 0
    try:
        if len(message) != ORDER.size:
            return False
        order = Order(*ORDER.unpack(message))
        try:
            done = work.follow(order, received)
        except OSError as failure:
            error = failure.errno or errno.EIO
            if order.number != OrderNumber.LIST:  # it ends so
                work.log(f"refused: order {' '.join(map(str, order))}: {failure.strerror}")
        if error == errno.EAGAIN:
            time.sleep(_REFUSED_SECONDS)
        answer = Answer(order.id, error, done.a, done.b)
        socket.send_fds(connection, [ANSWER.pack(*answer), done.text[:MOST_TEXT]], done.descriptors)
        if order.number == OrderNumber.TAKER and not error:
            work.log(f"process {os.getpid()} reclaims memory of guests")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _NO_TIMEOUT)  # the engine reads its results when it gets to it
            taker.serve(connection, work.guests)
            return False
        return True
    finally:
        for one in (*received, *done.descriptors):
            os.close(one)
