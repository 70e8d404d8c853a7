"""Connection to a possibly malicious peer, limited in bytes and lines, not in time."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from mom_core import MomError
from mom_kvm import Helper, PeerCredentials, connect_to_guest

_CHUNK_BYTES = 16 << 10

_LEAST_BYTES_EACH = 64
_SPARE_READS = 256
"""Pieces of an answer must have 64 bytes on average, or be few: each piece wakes this process."""


class NoAnswer(MomError):
    """No agent or no answer. mom tries again later."""


class RefusedByAgent(MomError):
    """Refusal by the agent, such as a missing file."""


class Misbehaves(MomError):
    """Invalid answer. mom drops all of it, and reports it."""


class Wire:
    """Stream of lines to and from a guest, as a context manager.

    :param address: path of a unix socket, or numeric (address, port)
    :param process: owner of the socket; 0 if any
    """

    def __init__(self, address: str | tuple[str, int], *, most_line: int, most_bytes: int, process: int = 0) -> None:
        self._address = address
        self._process = process
        self._most_line = most_line
        self._left = most_bytes
        self._reads_left = most_bytes // _LEAST_BYTES_EACH + _SPARE_READS
        self._came = bytearray()
        self._looked = 0

    async def __aenter__(self) -> Self:
        try:
            self._socket = await self._connected()
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{self._address}: {error}") from error
        return self

    async def _connected(self) -> socket.socket:
        if isinstance(self._address, str) and not os.access(self._address, os.W_OK) and Helper.reached() is not None:
            return await asyncio.to_thread(connect_to_guest, self._address)
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            if isinstance(self._address, str) and self._process:
                await self._connect_to_process(sock, self._address)
            else:
                await asyncio.get_running_loop().sock_connect(sock, self._address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _connect_to_process(self, sock: socket.socket, path: str) -> None:
        # A guest that has broken out of QEMU can replace the path and the socket.
        file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            await asyncio.get_running_loop().sock_connect(sock, f"/proc/self/fd/{file}")
            owner = os.fstat(file).st_uid
        finally:
            os.close(file)
        server = PeerCredentials.of(sock).process
        if server != self._process and owner != Path(f"/proc/{self._process}").stat().st_uid:
            raise PermissionError(errno.EPERM, f"process {server} serves the socket, but does not belong to the guest")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._socket.close()

    async def send(self, data: bytes) -> None:
        """Send all data. Raise `NoAnswer` on failure."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except OSError as error:
            raise NoAnswer(f"{self._address}: {error}") from error

    async def line(self) -> bytes:
        """Return the next line. Raise `NoAnswer` at the end, or `Misbehaves` beyond the limits."""
        while True:
            line = self._taken()
            if line is not None:
                return line
            if not await self._more():
                raise NoAnswer(f"{self._address}: the connection was closed")

    @property
    def pending(self) -> bool:
        """Whether there are unread bytes."""
        return bool(self._came)

    def _taken(self) -> bytes | None:
        end = self._came.find(b"\n", self._looked)
        if (len(self._came) if end < 0 else end) > self._most_line:
            raise Misbehaves("it sends a line without end")
        if end < 0:
            self._looked = len(self._came)
            return None
        line = bytes(self._came[:end])
        del self._came[: end + 1]
        self._looked = 0
        return line

    async def _more(self) -> bool:
        """Wait for more data. Return False at the end."""
        self._reads_left -= 1
        if self._left <= 0 or self._reads_left <= 0:
            raise Misbehaves("its answer is too long")
        await asyncio.sleep(0)  # a peer that never pauses must not block the loop and its timeouts
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, min(_CHUNK_BYTES, self._left))
        except OSError as error:
            raise NoAnswer(f"{self._address}: {error}") from error
        self._left -= len(data)
        self._came += data
        return bool(data)
