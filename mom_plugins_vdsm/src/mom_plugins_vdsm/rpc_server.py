"""HTTP part of the RPC server, with limits on time and size."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import logging
import re
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from mom_core import printable
from mom_kvm import Address, BoundedServer, PeerCredentials
from mom_plugins_vdsm.rpc_verbs import Verbs

LONGEST_HEAD: Final = 16 << 10
"""Maximum bytes of a request's first line and headers. vdsm sends about 300."""

LARGEST: Final = 4 << 20
"""Maximum bytes of a call. All policies together have at most 1 MiB."""

CLIENTS: Final = 64
"""Maximum number of concurrent clients. vdsm opens a connection for each call, and calls from eight threads."""

PATIENCE_SECONDS: Final = 5.0
"""Timeout for receiving a call, and again for sending the answer. vdsm waits for two seconds."""

_PIECE: Final = 64 << 10

_MOST_AFTER: Final = 1 << 20
"""Maximum bytes that the server reads after its answer. Without this reading, the client could lose the answer."""

_CALL: Final = re.compile(r"POST /(RPC2)? HTTP/1\.\d")
_LENGTH: Final = re.compile("[0-9]{1,9}")


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, reason: str = "") -> None:
        super().__init__(reason or status.phrase)
        self.status = status


class RpcServer(BoundedServer[BoundedServer.Door]):
    """XML-RPC server in a thread."""

    clients = 0

    def __init__(self, open_listener: Callable[[], Address.Listener], verbs: Verbs, log: logging.Logger) -> None:
        super().__init__([BoundedServer.Door(open_listener)], CLIENTS, log)
        self._verbs = verbs
        self._changing = asyncio.Lock()

    # --- in the loop's thread ------------------------------------------------------------------------------------------------------

    def make_room(self, door: BoundedServer.Door, sock: socket.socket | None) -> bool:
        """Refuse further clients: each connected client ends soon."""
        return False

    async def connect(self, door: BoundedServer.Door, sock: socket.socket) -> None:
        """Answer a client's call."""
        peer = _peer(sock)
        self.clients += 1
        try:
            reader, writer = await asyncio.open_connection(sock=sock, limit=LONGEST_HEAD)
            try:
                await self._send(reader, writer, HTTPStatus.OK, await self._answered(reader, peer))
            except _RefusedError as refused:
                self.log.warning("refused a request from %s: %s", peer, printable(str(refused), 200))
                await self._send(reader, writer, refused.status, f"{refused}\n".encode())
            finally:
                writer.transport.abort()
        except (OSError, EOFError):
            pass  # the client disconnected, or took too long
        except Exception:  # one client's request must not stop the server
            self.log.exception("a request of %s failed", peer)
        finally:
            self.clients -= 1

    async def _answered(self, reader: asyncio.StreamReader, peer: str) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                length = _length_of(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.LimitOverrunError:
                raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
            if length > LARGEST:
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the call is larger than {LARGEST:,} bytes")
            body = await reader.readexactly(length)
        # Changes take time. They run one after the other in threads, so that other calls need not wait.
        async with self._changing if self._verbs.is_change(body) else contextlib.nullcontext():
            return await asyncio.to_thread(self._verbs.answer, body, peer)

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: HTTPStatus, body: bytes) -> None:
        kind = "text/xml" if status == HTTPStatus.OK else "text/plain"
        head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.writelines([head.encode("ascii"), body])
            await writer.drain()
            writer.write_eof()
            with contextlib.suppress(asyncio.IncompleteReadError):  # the client has read the answer and disconnects
                await _skip(reader, _MOST_AFTER)


async def _skip(reader: asyncio.StreamReader, length: int) -> None:
    # A client reads only after it has sent everything.
    while length > 0:
        length -= len(piece := await reader.read(min(length, _PIECE)))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)


def _length_of(head: bytes) -> int:
    # Raise `_RefusedError` for invalid headers.
    first, _, header_lines = head.decode("latin-1").partition("\r\n")
    if not _CALL.fullmatch(first):
        raise _RefusedError(HTTPStatus.BAD_REQUEST, "this is an XML-RPC server: POST a method call to / or /RPC2")
    try:
        headers = http.client.parse_headers(io.BytesIO(header_lines.encode("latin-1")))
    except http.client.HTTPException:
        raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
    if "origin" in headers:
        # A web page in a user's browser must not set policies through the loopback.
        raise _RefusedError(HTTPStatus.FORBIDDEN, "requests from web pages are not allowed")
    lengths = headers.get_all("content-length", [])
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "send one Content-Length header of at most nine digits")
    return int(lengths[0])


def _peer(client: socket.socket) -> str:
    try:
        if client.family == socket.AF_UNIX:
            process, user, _group = PeerCredentials.of(client)
            return f"process {process} of user {user}"
        host, port, *_ = client.getpeername()
        return f"{printable(str(host))} port {port}"
    except OSError:
        return "a disconnected client"
