"""The server of the API: what it looks after in its connections, and a thread for what takes its time."""

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
from mom_plugins_http.server.access import LocalAccess, Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.protocol import HttpConnection, peer_of, server_config
from mom_plugins_http.server.shares import Shares
from mom_plugins_http.settings import HttpSettings

Result = TypeVar("Result")

_LOOK_SECONDS: Final = 1.0
"""How often connections are looked after: a fifth of the shortest usual patience."""

_REST_SECONDS: Final = 5.0
"""How often sockets are looked after while nobody is connected."""

_HANDSHAKES: Final = 32
"""TLS connections that may be half made, and at most half of all; further ones are closed at once."""


@dataclass(frozen=True, slots=True)
class Door(ServerDoor):
    """One place to listen at, and for whom.

    :param path: the file of a unix socket; None for TCP
    :param access: who may do what through a unix socket; None for TCP
    :param tls: for TCP: gives what a new connection uses
    :param keyed: whether a unix socket is the page's, on which a session is needed for every client
    """

    path: Path | None = None
    access: LocalAccess | None = None
    tls: Callable[[], ssl.SSLContext | None] | None = None
    keyed: bool = False


class Server(BoundedServer[Door]):
    """Serves an ASGI application in a thread of its own, from `start` to `close`."""

    def __init__(self, app: Callable[..., Any], doors: Sequence[Door], settings: HttpSettings, log: logging.Logger) -> None:
        super().__init__(doors, settings.clients, log)
        self._settings = settings
        self._config = server_config(app)
        self._state = ServerState()
        self._handshakes = 0
        self._came = asyncio.Event()
        """Set when somebody connects."""
        self._listening: dict[Door, asyncio.Task[None]] = {}

    # --- in the server's thread ----------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Look after all connections."""
        self._tick()
        self.keep(self._look_after())

    def end(self) -> None:
        """End all connections."""
        for connection in self._connections():
            connection.transport.abort()

    @property
    def clients(self) -> int:
        """How many are connected, or about to be."""
        return len(self._state.connections) + self._handshakes

    def takes(self, door: Door) -> bool:
        """True where this door takes one more client: no more handshakes of TLS than may be half made."""
        return door.tls is None or self._handshakes < min(_HANDSHAKES, self._settings.clients // 2)

    async def connect(self, door: Door, sock: socket.socket) -> None:
        """Hand the client over to its connection, after the handshake of TLS, if there is one."""
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
        except OSError:  # it has gone, or speaks no TLS (SSLError is one)
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
        """Make files of sockets anew that were deleted, as cleaners of folders do: no client finds a socket without one. Those that are
        connected stay. While mom may not write to the folder, there is nothing to try."""
        for door, task in list(self._listening.items()):
            if door.path is not None and not os.path.lexists(door.path) and os.access(door.path.parent, os.W_OK):
                if not task.done():
                    self.log.warning("the file of the socket %s was deleted: it is made anew", door.path)
                task.cancel()
                self.keep(self._listen(door, None))

    def _connections(self) -> list[HttpConnection]:
        return [each for each in self._state.connections if isinstance(each, HttpConnection)]

    def make_room(self, door: Door, sock: socket.socket | None) -> bool:
        """End a connection of those who may do least: one without a whole request, or one of the user who holds most. Nobody who may
        nothing has a whole request: strangers cannot hold their places by them."""
        open_ones = [each for each in self._connections() if not each.transport.is_closing()]
        shares = Shares(each.peer for each in open_ones)

        def order(each: HttpConnection) -> tuple[object, ...]:
            right, held = shares.order(each.peer)
            return right, each.answering, held, each.since

        first = min(open_ones, key=order, default=None)
        if first is None:
            return False
        if first.answering:
            newcomer = peer_of(sock, door.access)
            reader = replace(newcomer, right=max(newcomer.right, Right.READ))  # a stranger may be about to show a token
            if not shares.yields(first.peer, reader):
                return False
        self._state.connections.discard(first)
        first.transport.abort()
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
    """One thread for what takes its time, such as compiling policies: jobs wait for each other, and the server for none of them.

    :param what: the jobs, for who is refused
    :param most: how many jobs wait at most
    """

    def __init__(self, name: str, what: str, most: int) -> None:
        self._callers = Callers(name, 1)
        self._what, self._most = what, most
        self._waiting = 0
        self._own: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def full(self) -> bool:
        """Whether as many jobs wait as may."""
        return self._waiting >= self._most

    async def run(self, job: Callable[[], Result], user: str = "") -> Result:
        """The job's result, or what it raises; `ProblemError` when too many wait, or there is no thread. Called in the server's thread.

        :param user: whose job it is, where anyone may ask: users take turns, and none has more places than are free
        """
        if self.full or (user and self._own[user] >= self._most - self._waiting):
            raise ProblemError(503, f"too many {self._what} wait", "ask again in a moment", headers={"retry-after": "1"})
        self._waiting += 1
        self._own[user] += 1
        try:
            async with self._turns.setdefault(user, asyncio.Lock()) if user else contextlib.nullcontext():
                return await asyncio.wrap_future(self._begun(job))
        finally:
            self._waiting -= 1
            self._own[user] -= 1
            if not self._own[user]:
                del self._own[user]
                self._turns.pop(user, None)

    def _begun(self, job: Callable[[], Result]) -> Future[Result]:
        try:
            return self._callers.start(job)
        except RuntimeError as error:
            raise ProblemError(503, "the system gives mom no more threads", "ask again later", headers={"retry-after": "1"}) from error

    def close(self, seconds: float) -> None:
        """End after the job that is under way; wait for that at most so long."""
        self._callers.close(seconds)
