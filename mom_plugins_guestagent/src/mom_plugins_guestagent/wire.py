"""Connection to a possibly malicious peer, with limits on bytes and lines, not on time."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from mom_core import MomError
from mom_kvm import Address, Helper, PeerCredentials


class NoAnswer(MomError):
    """No agent or no answer. mom tries again later."""


class RefusedByAgent(MomError):
    """Refusal by the agent, such as a missing file."""


class Misbehaves(MomError):
    """Invalid answer. mom drops the whole answer, and reports the fault."""


class Wire:
    """Stream of lines to and from a guest, as a context manager.

    :param address: path of a unix socket, or numeric (address, port)
    :param process: PID of the process that must own the socket; 0 for any process
    """

    def __init__(self, address: str | tuple[str, int], *, most_line: int, most_bytes: int, process: int = 0) -> None:
        self._address = address
        self._process = process
        self._most_line = most_line
        self._left = most_bytes

    async def __aenter__(self) -> Self:
        try:
            self._reader, self._writer = await asyncio.open_connection(sock=await self._connected(), limit=self._most_line)
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{self._address}: {error}") from error
        return self

    async def _connected(self) -> socket.socket:
        if isinstance(self._address, str) and not os.access(self._address, os.W_OK) and Helper.reached() is not None:
            return await asyncio.to_thread(Address(path=self._address).connect)
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
        self._writer.transport.abort()

    async def send(self, data: bytes) -> None:
        """Send all data. Raise `NoAnswer` on failure."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise NoAnswer(f"{self._address}: {error}") from error

    async def line(self) -> bytes:
        """Return the next line. Raise `NoAnswer` at the end, or `Misbehaves` beyond the limits."""
        try:
            line = await self._reader.readuntil()
        except asyncio.IncompleteReadError:
            raise NoAnswer(f"{self._address}: the connection was closed") from None
        except asyncio.LimitOverrunError:
            raise Misbehaves("it sends a line without end") from None
        except OSError as error:
            raise NoAnswer(f"{self._address}: {error}") from error
        self._left -= len(line)
        if self._left < 0:
            raise Misbehaves("its answer is too long")
        return line[:-1]
