"""The HTTP side of the RPC server: many clients at once, each within its time and its sizes, so that none can hold up another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from mom_core import printable
from mom_toolkit import BoundedServer, HeldBytes, Listener, ServerDoor, peer_credentials

LONGEST_HEAD: Final = 16 << 10
"""Bytes of request line and headers; vdsm's have some 300."""

IDLE_SECONDS: Final = 60.0
"""How long a connection is kept for a next request."""

DRAIN_SECONDS: Final = 1.0
"""How long what a refused client still sends is read and dropped, so that it gets to read why."""

MOST_DROPPED: Final = 64 << 20
"""Bytes of a request that is too large, which are read and dropped, so that its client learns why as its own protocol says it. vdsm takes
an HTTP error for a mom that is not there."""

_BEGINNING: Final = 256
"""Bytes in which a call names its method; the smallest `largest` is more."""

MOST_ARRIVING: Final = 32 << 20
"""Bytes of requests that are in memory together, those that wait for their turn included: a few of the largest that are allowed."""

_PIECE: Final = 64 << 10
_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What one client may use.

    `patience` is the seconds that a request may take to arrive, and an answer to be taken; `body` the bytes of a request; `clients` how
    many may be connected at once.
    """

    patience: float = 5.0
    body: int = 4 << 20
    clients: int = 64


@dataclass(frozen=True, slots=True)
class RpcPeer:
    """Who asks: process and user at a unix socket, and how people call that."""

    process: int
    user: int
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class _Reply:
    """What is being sent."""

    body: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    version: str
    body: bytes
    keep: bool
    dropped: int = 0
    """Bytes of a body that was too large, of which only the beginning is there."""


class _RefusedError(Exception):
    """A request that is answered with an HTTP error, after which the connection ends."""

    def __init__(self, status: HTTPStatus, reason: str = "") -> None:
        super().__init__(reason or status.phrase)
        self.status = status


Answering = Callable[[bytes, RpcPeer], bytes]
"""Turns a request's body into the answer's; never raises."""


class RpcServer(BoundedServer[ServerDoor]):
    """Serves in a thread of its own, from `start` to `close`.

    :param open_listener: gives what to listen on; raises `OccupiedByOurselvesError` while a plugin that is about to go serves there
    :param answer: called in one of a few threads
    :param too_large: the answer to a request of so many bytes, of which only these were kept
    :param slow: whether a body asks for what may take its time; those wait for each other, and no other for them
    :param paths: the HTTP paths that are served
    """

    def __init__(
        self,
        open_listener: Callable[[], Listener],
        answer: Answering,
        too_large: Callable[[int, RpcPeer, bytes], bytes],
        slow: Callable[[bytes], bool],
        paths: frozenset[str],
        limits: RpcLimits,
        log: logging.Logger,
    ) -> None:
        super().__init__([ServerDoor(open_listener)], limits.clients, log)
        self._answer = answer
        self._too_large = too_large
        self._slow = slow
        self._paths = paths
        self._limits = limits
        self._waiting: dict[ClientStream, float] = {}
        """Connections on which no complete request has arrived, by when that began."""
        self._clients: dict[ClientStream, asyncio.Task[None] | None] = {}
        self._arriving, self._unread = HeldBytes(MOST_ARRIVING), HeldBytes()
        self._quick = ThreadPoolExecutor(2, "mom-rpc-read")
        self._patient = ThreadPoolExecutor(1, "mom-rpc-change")

    def close(self) -> None:
        """Stop listening, end all connections and all threads."""
        super().close()
        for pool in (self._quick, self._patient):
            pool.shutdown(wait=True, cancel_futures=True)

    # --- in the loop's thread ------------------------------------------------------------------------------------------------------

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    def drop_silent(self) -> bool:
        """End the connection that has been silent for longest, if any is."""
        if not self._waiting:
            return False
        self._let_go(min(self._waiting, key=self._waiting.__getitem__))
        return True

    async def connect(self, door: ServerDoor, sock: socket.socket) -> None:
        """Answer a client until it goes, or is let go."""
        stream, peer = ClientStream(sock), _peer(sock)
        self._clients[stream] = asyncio.current_task()
        try:
            while await self._one(stream, peer):
                pass
        except (OSError, EOFError):
            pass  # it went away, or was silent for too long
        except Exception:  # one client's request must not end the server, whatever is wrong with it
            self.log.exception("a request of %s failed", peer.name)
        finally:
            self._clients.pop(stream, None)
            self._waiting.pop(stream, None)
            sock.close()

    def _let_go(self, stream: ClientStream) -> None:
        self._waiting.pop(stream, None)
        if (task := self._clients.pop(stream, None)) is not None:
            task.cancel()

    async def _one(self, stream: ClientStream, peer: RpcPeer) -> bool:
        """Serve one request; whether the connection is kept for another one."""
        self._waiting[stream] = time.monotonic()
        try:
            request = await self._read(stream)
        except _RefusedError as refused:
            self.log.warning("a request of %s is refused: %s", peer.name, printable(str(refused), 200))
            await self._refuse(stream, refused)
            return False
        finally:
            self._waiting.pop(stream, None)
        answer = _Reply(await self._answered(stream, request, peer))
        connection, length = "keep-alive" if request.keep else "close", len(answer.body)
        head = f"{request.version} 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        self._unread.begin(answer, partial(self._let_go, stream))
        self._unread.fits(answer)
        try:
            async with asyncio.timeout(self._limits.patience):
                await stream.send(head.encode("ascii"))
                await stream.send(answer.body)  # as it is: the newest statistics are in memory once, however many clients take them
        finally:
            self._unread.end(answer)
        return request.keep

    async def _answered(self, stream: ClientStream, request: _Request, peer: RpcPeer) -> bytes:
        if request.dropped:
            return self._too_large(request.dropped, peer, request.body)
        self._arriving.begin(request, partial(self._let_go, stream))
        self._arriving.keep(request)
        try:
            pool = self._patient if self._slow(request.body) else self._quick
            return await asyncio.get_running_loop().run_in_executor(pool, self._answer, request.body, peer)
        finally:
            self._arriving.end(request)

    async def _read(self, stream: ClientStream) -> _Request:
        """The next request. `EOFError` or `TimeoutError` when the client went away or asked for nothing more."""
        async with asyncio.timeout(IDLE_SECONDS):
            await stream.fill(1)
        try:
            async with asyncio.timeout(self._limits.patience):
                version, method, path, headers = _parse_head(await stream.head())
                length = self._checked(version, method, path, headers)
                dropped = length if length > self._limits.body else 0
                if not dropped and headers.get("expect", "").lower() == "100-continue":
                    await stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await (self._dropped(stream, length) if dropped else self._body(stream, length))
        except TimeoutError:
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT) from None
        wish = headers.get("connection", "").lower()
        keep = wish == "keep-alive" if version == "HTTP/1.0" else wish != "close"
        return _Request(version, body, keep, dropped)

    async def _body(self, stream: ClientStream, length: int) -> bytes:
        """So many bytes. Where those of all requests are too many, those that have been arriving for longest end."""
        self._arriving.begin(stream, partial(self._let_go, stream))
        try:
            for there in (*range(_PIECE, length, _PIECE), length):
                await stream.fill(there)
                if not self._arriving.fits(stream):
                    raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many large requests wait; send it again in a moment")
            return stream.take(length)
        finally:
            self._arriving.end(stream)

    async def _dropped(self, stream: ClientStream, length: int) -> bytes:
        """Read a body that is too large, and keep what names the method. Raises `_RefusedError` where it does not come."""
        try:
            await stream.fill(_BEGINNING)
            beginning = stream.take(_BEGINNING)
            await stream.drop(length - _BEGINNING)
        except EOFError:
            raise self._larger_than_allowed() from None
        return beginning

    def _larger_than_allowed(self) -> _RefusedError:
        return _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {self._limits.body:,} bytes")

    def _checked(self, version: str, method: str, path: str, headers: Mapping[str, str]) -> int:
        """The length of the body, if this is a request that can be answered."""
        if version not in {"HTTP/1.0", "HTTP/1.1"}:
            raise _RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        if method != "POST":
            raise _RefusedError(HTTPStatus.NOT_IMPLEMENTED, "this is an XML-RPC server: POST a method call")
        if path not in self._paths:
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"the path is {' or '.join(sorted(self._paths))}")
        if "origin" in headers:
            # A web page in a user's browser must not set policies on a port of the loopback.
            raise _RefusedError(HTTPStatus.FORBIDDEN, "requests of web pages are not answered")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a compressed request is not read")
        length = headers.get("content-length", "")
        if "transfer-encoding" in headers or not length:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED)
        if not (length.isascii() and length.isdigit()):
            raise _RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        size = int(length) if len(length) < 16 else 1 << 60
        waits = headers.get("expect", "").lower() == "100-continue"  # and sends nothing that could be dropped
        if size > (self._limits.body if waits else max(self._limits.body, MOST_DROPPED)):
            raise self._larger_than_allowed()
        return size

    async def _refuse(self, stream: ClientStream, refused: _RefusedError) -> None:
        text = f"{refused}\n".encode()
        status = refused.status
        allow = "Allow: POST\r\n" if status == HTTPStatus.NOT_IMPLEMENTED else ""
        head = f"HTTP/1.1 {status} {status.phrase}\r\n{allow}Content-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await stream.send(f"{head}Connection: close\r\n\r\n".encode("ascii") + text)
                await stream.drop_the_rest()


class ClientStream:
    """A client's socket, with what has been read of it and not been used yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._read = bytearray()

    @property
    def body(self) -> bytearray:
        """What has been read."""
        return self._read

    async def fill(self, size: int) -> None:
        """Read until so many bytes are there. `EOFError` when the client ends before that."""
        loop = asyncio.get_running_loop()
        while len(self._read) < size:
            part = await loop.sock_recv(self.sock, _PIECE)
            if not part:
                raise EOFError
            self._read += part

    def take(self, size: int) -> bytes:
        """The next bytes, which are there."""
        with memoryview(self._read) as read:  # copied once: it may be large
            taken = bytes(read[:size])
        del self._read[:size]
        return taken

    async def drop(self, size: int) -> None:
        """Read so many bytes and keep none of them. `EOFError` when the client ends before that."""
        while size > 0:
            if not self._read:
                await self.fill(1)
            size -= len(self.take(min(size, len(self._read))))

    async def head(self) -> bytes:
        """Everything up to the empty line that ends the headers."""
        searched = 0
        while (end := self._read.find(_END_OF_HEAD, max(0, searched - len(_END_OF_HEAD)))) < 0:
            searched = len(self._read)
            if searched > LONGEST_HEAD:
                raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            await self.fill(searched + 1)
        return self.take(end + len(_END_OF_HEAD))

    async def send(self, content: bytes) -> None:
        """Send all of it."""
        await asyncio.get_running_loop().sock_sendall(self.sock, content)

    async def drop_the_rest(self) -> None:
        """Send nothing more, and read without use what the client still sends, so that it gets to read the answer."""
        self.sock.shutdown(socket.SHUT_WR)
        while await asyncio.get_running_loop().sock_recv(self.sock, _PIECE):
            pass


def _parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    """Version, method, path and headers, by lower-case name."""
    try:
        first, *lines = head.decode("latin-1").strip("\r\n").split("\r\n")
        method, path, version = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip() or not name:
                raise ValueError(line)
            if name.lower() in headers and name.lower() == "content-length":
                raise ValueError(line)
            headers[name.lower()] = value.strip()
    except ValueError:
        raise _RefusedError(HTTPStatus.BAD_REQUEST) from None
    return version, method, path, headers


def _peer(client: socket.socket) -> RpcPeer:
    try:
        if client.family == socket.AF_UNIX:
            process, user, _group = peer_credentials(client)
            return RpcPeer(process, user, f"process {process} of user {user}")
        host, port, *_ = client.getpeername()
        return RpcPeer(0, -1, f"{printable(str(host))} port {port}")
    except OSError:
        return RpcPeer(0, -1, "a client that is gone")
