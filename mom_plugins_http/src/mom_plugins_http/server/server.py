"""API server with limited connections, and a thread for slow jobs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final, TypeVar

from uvicorn.server import ServerState

from mom_kvm import BoundedServer, Callers, Listener, ServerDoor
from mom_plugins_http.server.access import LocalAccess, Right, Shares
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.protocol import HttpConnection, peer_of, server_config
from mom_plugins_http.settings import HttpSettings

Result = TypeVar("Result")

_LOOK_SECONDS: Final = 1.0
"""Seconds between checks of connections: a fifth of the default `patience`."""

_REST_SECONDS: Final = 5.0

_HANDSHAKES: Final = 32
"""Maximum number of TLS handshakes at a time."""


@dataclass(frozen=True, slots=True)
class Door(ServerDoor):
    """Listening socket, and its rules.

    :param tls: returns the TLS context for a new connection
    :param keyed: every client needs a session of the web page
    """

    path: Path | None = None
    access: LocalAccess | None = None
    tls: Callable[[], ssl.SSLContext | None] | None = None
    keyed: bool = False


class Server(BoundedServer[Door]):
    """Server of an ASGI application in its own thread."""

    def __init__(self, app: Callable[..., Any], doors: Sequence[Door], settings: HttpSettings, log: logging.Logger) -> None:
        super().__init__(doors, settings.clients, log)
        self._settings = settings
        self._config = server_config(app)
        self._state = ServerState()
        self._handshakes = 0
        self._came = asyncio.Event()
        self._listening: dict[Door, asyncio.Task[None]] = {}

    def begin(self) -> None:
        """Start to check connections."""
        self._tick()
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
        return door.tls is None or self._handshakes < min(_HANDSHAKES, self._settings.clients // 2)

    async def connect(self, door: Door, sock: socket.socket) -> None:
        """Start a connection, after a TLS handshake if needed."""
        loop = asyncio.get_running_loop()
        patience = self._settings.patience if door.tls is not None else None
        self._came.set()
        self._tick()
        self._handshakes += 1
        try:
            await loop.connect_accepted_socket(
                lambda: HttpConnection(self._config, self._state, door.access, keyed=door.keyed),
                sock,
                ssl=None if door.tls is None else door.tls(),
                ssl_handshake_timeout=patience,
            )
        except OSError:  # the client is gone, or does not use TLS (SSLError is an OSError)
            sock.close()
        except BaseException:
            sock.close()
            raise
        finally:
            self._handshakes -= 1

    async def _listen(self, door: Door, listener: Listener | None) -> None:
        if (task := asyncio.current_task()) is not None:
            self._listening[door] = task
        await super()._listen(door, listener)

    def _listen_again(self) -> None:
        # A cleaner of /run, for example, may delete sockets.
        for door, task in list(self._listening.items()):
            if door.path is not None and not os.path.lexists(door.path) and os.access(door.path.parent, os.W_OK):
                if not task.done():
                    self.log.warning("the file of the socket %s was deleted: mom creates it again", door.path)
                task.cancel()
                self.keep(self._listen(door, None))

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
            self._came.clear()
            if not self.clients:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._came.wait(), _REST_SECONDS - _LOOK_SECONDS)
            await asyncio.sleep(_LOOK_SECONDS)
            self._tick()
            self._listen_again()
            for connection in self._connections():
                connection.look_after(loop.time(), self._settings.patience)

    def _tick(self) -> None:
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]


class Worker:
    """Thread for slow jobs, one at a time."""

    def __init__(self, name: str, what: str, most: int) -> None:
        self._callers = Callers(name, 1)
        self._what, self._most = what, most
        self._waiting = 0
        self._own: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def full(self) -> bool:
        """Whether no further job may wait."""
        return self._waiting >= self._most

    async def run(self, job: Callable[[], Result], user: str = "") -> Result:
        """Return the job's result, or raise its error. Raise `ProblemError` if too many jobs are waiting.

        :param user: who asks, if the job needs no special right. Users take turns; none may have more jobs than places are free
        """
        if self.full or (user and self._own[user] >= self._most - self._waiting):
            raise ProblemError(503, f"too many {self._what} are waiting", "ask again in a moment", headers={"retry-after": "1"})
        self._waiting += 1
        self._own[user] += 1
        try:
            async with self._turns.setdefault(user, asyncio.Lock()) if user else contextlib.nullcontext():
                return await asyncio.wrap_future(self._start(job))
        finally:
            self._waiting -= 1
            self._own[user] -= 1
            if not self._own[user]:
                del self._own[user]
                self._turns.pop(user, None)

    def _start(self, job: Callable[[], Result]) -> Future[Result]:
        try:
            return self._callers.start(job)
        except RuntimeError as error:
            raise ProblemError(503, "mom cannot start more threads", "ask again later", headers={"retry-after": "1"}) from error

    def close(self, seconds: float) -> None:
        """End after the current job; wait at most `seconds`."""
        self._callers.close(seconds)
