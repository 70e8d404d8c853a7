"""Base class of mom's servers. Each server runs in its own thread, with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from mom_core import MomError
from mom_kvm.sockets import Address, OccupiedByOurselvesError

_AGAIN_SECONDS: Final = 0.05


D = TypeVar("D", bound="BoundedServer.Door")


class BoundedServer(ABC, Generic[D]):
    """Server that listens from `start` to `close`. A subclass serves the clients.

    :param most: maximum number of concurrent clients; a further client may displace a connected one
    """

    @dataclass(frozen=True, slots=True)
    class Door:
        """Address at which a server listens.

        :param open_listener: starts to listen; raises `OccupiedByOurselvesError` while the plugin that a reload replaces is still listening
        """

        open_listener: Callable[[], Address.Listener]

    def __init__(self, doors: Sequence[D], most: int, log: logging.Logger) -> None:
        self.log = log
        self.waits = False
        """Whether another plugin of this process was still listening at a door at the start."""
        self._doors = doors
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self, name: str) -> None:
        """Start to listen and serve. Raise `MomError` if mom cannot listen at a door."""
        listeners: list[Address.Listener | None] = []
        self.waits = False
        try:
            for door in self._doors:
                try:
                    listeners.append(door.open_listener())
                except OccupiedByOurselvesError:
                    listeners.append(None)
                    self.waits = True
            self._thread = self._begun(listeners, name)
        except BaseException:
            for listener in filter(None, listeners):
                listener.close()
            raise

    def _begun(self, listeners: Sequence[Address.Listener | None], name: str) -> threading.Thread:
        ready: Future[None] = Future()
        thread = threading.Thread(target=self._run, args=(listeners, ready), name=f"mom-{name}-server", daemon=True)
        try:
            thread.start()
            ready.result()
        except Exception as error:  # such as the limit of threads or files
            raise MomError(f"the server could not be started: {error}") from error
        return thread

    def close(self) -> None:
        """Stop listening, close all connections, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and self._ending is not None:
            self.call_soon(self._ending.set)
            thread.join()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call a function in the server's thread, unless that thread has ended. Thread-safe."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(function)

    # --- in the server's thread ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def clients(self) -> int:
        """Number of connected and connecting clients."""

    @abstractmethod
    def make_room(self, door: D, sock: socket.socket | None) -> bool:
        """Close a connection to make room for a new client. Return False if no connection may be closed.

        :param sock: the new client's socket; None if accepting it failed
        """

    @abstractmethod
    async def connect(self, door: D, sock: socket.socket) -> None:
        """Serve the client, then close its non-blocking socket."""

    def takes(self, door: D) -> bool:
        """Return whether this door accepts another client."""
        return True

    def begin(self) -> None:
        """Prepare to serve the first client."""

    def end(self) -> None:
        """Release what `begin` has created."""

    def keep(self, task: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task until it or the server ends."""
        kept = asyncio.get_running_loop().create_task(task)
        self._tasks.add(kept)
        kept.add_done_callback(self._tasks.discard)
        return kept

    def _run(self, listeners: Sequence[Address.Listener | None], ready: Future[None]) -> None:
        try:
            with asyncio.Runner() as runner:  # may fail, so create no task before
                runner.run(self._serve(listeners, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)  # `start` waits for this

    async def _serve(self, listeners: Sequence[Address.Listener | None], ready: Future[None]) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self.begin()
        for door, listener in zip(self._doors, listeners, strict=True):
            self.keep(self._listen(door, listener))
        ready.set_result(None)
        await self._ending.wait()
        self.end()  # then the loop cancels all tasks

    async def _listen(self, door: D, listener: Address.Listener | None) -> None:
        while listener is None:
            await asyncio.sleep(_AGAIN_SECONDS)
            try:
                listener = door.open_listener()
            except OccupiedByOurselvesError:
                continue
            except MomError as error:
                self.log.error("%s", error)
                return
        try:
            await self._accept(door, listener)
        finally:
            listener.close()

    async def _accept(self, door: D, listener: Address.Listener) -> None:
        while True:
            try:
                sock = await accepted(listener.sock)
            except OSError as error:
                self.log.warning("a client could not be accepted: %s", error.strerror)
                self.make_room(door, None)
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            full = self.clients >= self._most
            if not self.takes(door) or (full and not self.make_room(door, sock)):  # close no client for a refused one
                sock.close()
                continue
            sock.setblocking(False)
            self.keep(self.connect(door, sock)).add_done_callback(_closing_if_cancelled(sock))


async def accepted(listener: socket.socket) -> socket.socket:
    """Return the next connection. A cancelled call loses no connection."""
    while True:
        await _readable(listener)
        with contextlib.suppress(BlockingIOError):  # the client disconnected before the accept
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

    def close(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            sock.close()

    return close
