"""Relay between libvirt's client and pods' libvirts.

The relay limits the size of messages, because the client would accept 32 MiB, and then need 50 times as much memory.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Final

MOST_BYTES: Final = 256 << 10
"""Longest message that the relay passes on. Statistics have about 2 KiB, a description about 20 KiB."""

_BYTES_A_SECOND: Final = 4 << 20
"""The relay passes on at most this many bytes per second from one pod. Further data waits."""

_CONNECT_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 64 << 10
_HEAD_BYTES: Final = 4
"""Size of the length field with which each message begins. The length includes this field (src/rpc/virnetprotocol.x)."""


class Relay:
    """Relay of data between libvirt's client and pods, in one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    @contextmanager
    def to(self, path: str, refuse: Callable[[str], None]) -> Iterator[str]:
        """Yield the path of a socket for one connection, which the relay forwards to `path`. Raise `OSError` if `path` is unreachable.

        :param refuse: called with the reason, in the relay's thread, when a bad message ends the connection
        """
        pod, listener = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)

        def close(_: object = None) -> None:
            pod.close()
            listener.close()

        try:
            pod.settimeout(_CONNECT_SECONDS)
            pod.connect(path)
            pod.setblocking(False)
            with tempfile.TemporaryDirectory(prefix="mom-") as folder:
                listener.bind(f"{folder}/s")
                door = os.open(f"{folder}/s", os.O_PATH | os.O_CLOEXEC)  # the socket also works without a name
            listener.listen(1)
            listener.setblocking(False)
            self._begin(lambda: _serve(listener, pod, refuse), close)
        except BaseException:
            close()
            raise
        try:
            yield f"/proc/self/fd/{door}"
        finally:
            os.close(door)

    def stop(self, seconds: float) -> None:
        """End all connections, and refuse new ones."""
        with self._lock:
            self._stopped = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(seconds)

    def _begin(self, serve: Callable[[], Coroutine[None, None, None]], ended: Callable[[object], None]) -> None:
        # Under the lock, so that no task is added to a stopped loop. asyncio calls `ended` even if the task never began.
        with self._lock:
            if self._stopped:
                raise OSError(errno.ESHUTDOWN, "mom is stopping")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_run, args=(self._loop,), name="kubevirt-relay", daemon=True)
                self._thread.start()
            asyncio.run_coroutine_threadsafe(serve(), self._loop).add_done_callback(ended)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # cancels all tasks at its end
        runner.get_loop().run_forever()


async def _serve(listener: socket.socket, pod: socket.socket, refuse: Callable[[str], None]) -> None:
    with listener:
        async with asyncio.timeout(_CONNECT_SECONDS):
            client, _ = await asyncio.get_running_loop().sock_accept(listener)
    with client:
        ways = [asyncio.ensure_future(_pass_requests(client, pod)), asyncio.ensure_future(_pass_answers(pod, client, refuse))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pass_requests(client: socket.socket, pod: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(client, _CHUNK_BYTES):
        await loop.sock_sendall(pod, data)


async def _pass_answers(pod: socket.socket, client: socket.socket, refuse: Callable[[str], None]) -> None:
    loop, messages = asyncio.get_running_loop(), Messages()
    while data := await loop.sock_recv(pod, _CHUNK_BYTES):
        if error := messages.error_in(data):
            refuse(error)
            return
        await loop.sock_sendall(client, data)
        await asyncio.sleep(len(data) / _BYTES_A_SECOND)


class Messages:
    """Parser of message boundaries in a pod's data."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        """Bytes of the current message that have not arrived yet."""

    def error_in(self, data: bytes) -> str:
        """Return why a message in this data must not be passed on; empty if the data is fine."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left, at = self._left - step, at + step
                continue
            step = min(_HEAD_BYTES - len(self._head), len(data) - at)
            self._head, at = self._head + data[at : at + step], at + step
            if len(self._head) < _HEAD_BYTES:
                continue
            size, self._head = int.from_bytes(self._head, "big"), b""
            if size < _HEAD_BYTES:
                return "its libvirt does not speak libvirt's protocol"
            if size > MOST_BYTES:
                return f"its libvirt sends a message of {size} bytes, and the limit for one guest is {MOST_BYTES}"
            self._left = size - _HEAD_BYTES
        return ""
