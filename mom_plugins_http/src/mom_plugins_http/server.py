"""The server: a thread with an event loop that accepts connections, looks after them, and ends at once when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final, TypeVar

from uvicorn.server import ServerState

from mom_core import MomError
from mom_plugins_http.access import LocalAccess
from mom_plugins_http.protocol import ClientLimits, HttpConnection, server_config
from mom_toolkit import Callers, Listener, OccupiedByOurselvesError

Result = TypeVar("Result")

_AGAIN_SECONDS: Final = 0.05
"""Between two attempts to listen where the plugin that a reload replaces still does, or to accept without file descriptors."""

_LOOK_SECONDS: Final = 1.0
"""How often connections are looked after: a fifth of the shortest usual patience."""

_HANDSHAKES: Final = 32
"""TLS connections that may be half made; further ones are closed at once."""


@dataclass(frozen=True, slots=True)
class Door:
    """One place to listen at.

    :param open_listener: gives what to listen on; raises `OccupiedByOurselvesError` while a plugin that is about to go listens there
    :param access: who may do what through a unix socket; None for TCP
    :param tls: for TCP
    :param keyed: whether a unix socket is the page's, on which a session is needed for every client
    """

    open_listener: Callable[[], Listener]
    access: LocalAccess | None = None
    tls: ssl.SSLContext | None = None
    keyed: bool = False


class Server:
    """Serves an ASGI application in a thread of its own, from `start` to `close`."""

    def __init__(self, app: Callable[..., Any], doors: Sequence[Door], limits: ClientLimits, log: logging.Logger) -> None:
        self._doors = doors
        self._limits = limits
        self._log = log
        self._config = server_config(app)
        self._state = ServerState()
        self._handshakes = 0
        self.waits = False
        """Whether a plugin of this process still listened at a door when this began."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self, name: str) -> None:
        """Listen and serve. Raises `MomError` if it cannot be listened at one of the doors; nothing is left open then."""
        listeners: list[Listener | None] = []
        self.waits = False
        try:
            for door in self._doors:
                try:
                    listeners.append(door.open_listener())
                except OccupiedByOurselvesError:
                    listeners.append(None)
                    self.waits = True
        except BaseException:
            for listener in listeners:
                if listener is not None:
                    listener.close()
            raise
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(listeners, ready)), name=f"mom-{name}-server", daemon=True)
        self._thread.start()
        ready.wait()

    def close(self) -> None:
        """Stop listening, end all connections and the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and self._ending is not None:
            self.call_soon(self._ending.set)
            thread.join()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Have something called in the server's thread, from any other one. Nothing happens when that has ended."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(function)

    # --- in the server's thread ----------------------------------------------------------------------------------------------------

    async def _serve(self, listeners: Sequence[Listener | None], ready: threading.Event) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._tick()
        tasks = [asyncio.create_task(self._listen(door, listener)) for door, listener in zip(self._doors, listeners, strict=True)]
        tasks.append(asyncio.create_task(self._look_after()))
        ready.set()
        await self._ending.wait()
        for connection in self._connections():
            connection.transport.abort()
        await _end([*tasks, *self._state.tasks])

    async def _listen(self, door: Door, listener: Listener | None) -> None:
        while listener is None:
            await asyncio.sleep(_AGAIN_SECONDS)
            try:
                listener = door.open_listener()
            except OccupiedByOurselvesError:
                continue
            except MomError as error:
                self._log.error("%s", error)
                return
        try:
            await self._accept(door, listener)
        finally:
            listener.close()

    async def _accept(self, door: Door, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        made: set[asyncio.Task[None]] = set()
        while True:
            try:
                sock = await accepted(listener.sock)
            except OSError as error:
                self._log.warning("a client could not be accepted: %s", error.strerror)
                self._drop_one()
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            full = len(self._state.connections) + self._handshakes >= self._limits.clients
            if (full and not self._drop_one()) or (door.tls is not None and self._handshakes >= _HANDSHAKES):
                sock.close()
                continue
            sock.setblocking(False)
            task = loop.create_task(self._connect(door, sock))
            made.add(task)
            task.add_done_callback(made.discard)
            task.add_done_callback(_closing_if_cancelled(sock))

    async def _connect(self, door: Door, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        patience = self._limits.patience if door.tls is not None else None
        self._handshakes += 1
        try:
            await loop.connect_accepted_socket(
                lambda: HttpConnection(self._config, self._state, door.access, keyed=door.keyed),
                sock,
                ssl=door.tls,
                ssl_handshake_timeout=patience,
            )
        except OSError:  # it has gone, or speaks no TLS (SSLError is one)
            sock.close()
        except BaseException:
            sock.close()
            raise
        finally:
            self._handshakes -= 1

    def _connections(self) -> list[HttpConnection]:
        return [each for each in self._state.connections if isinstance(each, HttpConnection)]

    def _drop_one(self) -> bool:
        """End the connection that has been silent for longest, if any is."""
        silent = [each for each in self._connections() if each.silent_since is not None and not each.transport.is_closing()]
        if silent:
            longest = min(silent, key=lambda each: each.silent_since or 0.0)
            self._state.connections.discard(longest)
            longest.transport.abort()
        return bool(silent)

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._tick()
            for connection in self._connections():
                connection.look_after(loop.time(), self._limits.patience)

    def _tick(self) -> None:
        self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]


async def accepted(listener: socket.socket) -> socket.socket:
    """The next connection. It is accepted and returned in one step: a cancellation comes before it, or finds it in its caller's hands."""
    while True:
        await _readable(listener)
        with contextlib.suppress(BlockingIOError):  # the client went before it was accepted
            return listener.accept()[0]


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


def _closing_if_cancelled(sock: socket.socket) -> Callable[[asyncio.Task[None]], None]:
    """For a task that looks after a connection, and may be cancelled before it has begun to."""

    def close(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            sock.close()

    return close


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Worker:
    """One thread for what takes its time, such as compiling policies: jobs wait for each other, and the server for none of them.

    :param most: how many jobs wait at most
    """

    def __init__(self, name: str, most: int) -> None:
        self._callers = Callers(name, 1)
        self._most = most
        self._waiting = 0

    @property
    def full(self) -> bool:
        """Whether as many jobs wait as may."""
        return self._waiting >= self._most

    async def run(self, job: Callable[[], Result]) -> Result:
        """What the job returns, or what it raises. Called in the server's thread."""
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._callers.start(job))
        finally:
            self._waiting -= 1

    def close(self, seconds: float) -> None:
        """End after the job that is under way; wait for that at most so long."""
        self._callers.close(seconds)
