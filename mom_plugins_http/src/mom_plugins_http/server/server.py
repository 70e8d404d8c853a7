"""API server with limited connections, and a thread for slow jobs."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Final, TypeVar

from uvicorn.server import ServerState

from mom_kvm import BoundedServer, Callers, ServerDoor
from mom_plugins_http.server.access import LocalAccess, Right, Shares
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.protocol import PATIENCE_SECONDS, HttpConnection, peer_of, server_config

Result = TypeVar("Result")

MOST_CLIENTS: Final = 64
"""Maximum number of connections. At this limit, a new connection replaces one with the lowest right: with an incomplete request, or of the
user with most connections."""

_LOOK_SECONDS: Final = 1.0
"""Seconds between checks of connections."""

_HANDSHAKES: Final = 32
"""Maximum number of TLS handshakes at a time."""


@dataclass(frozen=True, slots=True)
class Door(ServerDoor):
    """Listening socket, and its rules.

    :param tls: returns the TLS context for a new connection
    :param keyed: every client needs a session of the web page
    """

    access: LocalAccess | None = None
    tls: Callable[[], ssl.SSLContext | None] | None = None
    keyed: bool = False


class Server(BoundedServer[Door]):
    """Server of an ASGI application in its own thread."""

    def __init__(self, app: Callable[..., Any], doors: Sequence[Door], log: logging.Logger) -> None:
        super().__init__(doors, MOST_CLIENTS, log)
        self._config = server_config(app)
        self._state = ServerState()
        self._handshakes = 0

    def begin(self) -> None:
        """Start to check connections."""
        self.keep(self._look_after())

    def end(self) -> None:
        """End all connections."""
        for connection in self._connections():
            connection.transport.abort()

    @property
    def clients(self) -> int:
        """Count connections and handshakes."""
        return len(self._state.connections) + self._handshakes

    def takes(self, door: Door) -> bool:
        """Return whether this door accepts another client."""
        return door.tls is None or self._handshakes < min(_HANDSHAKES, self._most // 2)

    async def connect(self, door: Door, sock: socket.socket) -> None:
        """Start a connection, after a TLS handshake if needed."""
        loop = asyncio.get_running_loop()
        self._handshakes += 1
        try:
            await loop.connect_accepted_socket(
                lambda: HttpConnection(self._config, self._state, door.access, keyed=door.keyed),
                sock,
                ssl=None if door.tls is None else door.tls(),
                ssl_handshake_timeout=None if door.tls is None else PATIENCE_SECONDS,
            )
        except OSError:  # the client is gone, or does not use TLS (SSLError is an OSError)
            sock.close()
        except BaseException:
            sock.close()
            raise
        finally:
            self._handshakes -= 1

    def _connections(self) -> list[HttpConnection]:
        return [each for each in self._state.connections if isinstance(each, HttpConnection)]

    def make_room(self, door: Door, sock: socket.socket | None) -> bool:
        """End a connection with the lowest right: with an incomplete request, or of the user with most connections.

        Requests without a right always count as incomplete, so that strangers cannot block places.
        """
        open_ones = [each for each in self._connections() if not each.transport.is_closing()]
        shares = Shares(each.peer for each in open_ones)

        def order(each: HttpConnection) -> tuple[object, ...]:
            right, held = shares.order(each.peer)
            return right, each.answering, held, each.since

        weakest = min(open_ones, key=order, default=None)
        if weakest is None:
            return False
        if weakest.answering:
            newcomer = peer_of(sock, door.access)
            reader = replace(newcomer, right=max(newcomer.right, Right.READ))  # it may soon send a token
            if not shares.yields(weakest.peer, reader):
                return False
        self._state.connections.discard(weakest)
        weakest.transport.abort()
        return True

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
            for connection in self._connections():
                connection.look_after(loop.time())
            await asyncio.sleep(_LOOK_SECONDS)


class Worker:
    """Thread for slow jobs, one at a time. At most `most` jobs wait."""

    def __init__(self, name: str, what: str, most: int = 64) -> None:
        self._callers = Callers(name, 1)
        self._what, self._most = what, most
        self._waiting: Counter[str] = Counter()

    @property
    def full(self) -> bool:
        """Whether no further job may wait."""
        return self._waiting.total() >= self._most

    async def run(self, job: Callable[[], Result], user: str = "") -> Result:
        """Return the job's result, or raise its error. Raise `ProblemError` if too many jobs are waiting.

        :param user: who asks, if the job needs no special right. No user may have more jobs than places are free
        """
        if self.full or (user and self._waiting[user] >= self._most - self._waiting.total()):
            raise ProblemError(503, f"too many {self._what} are waiting", "ask again in a moment", headers={"retry-after": "1"})
        self._waiting[user] += 1
        try:
            return await asyncio.wrap_future(self._callers.start(job))
        finally:
            self._waiting[user] -= 1
            self._waiting += Counter()  # drop users without jobs

    def close(self, seconds: float) -> None:
        """End after the current job; wait at most `seconds`."""
        self._callers.close(seconds)
