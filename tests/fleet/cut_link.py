"""The way from one client to a server, which a test cuts and mends."""

import asyncio
from contextlib import suppress


class CutLink:
    """Passes on what comes at its port. Only within the event loop in which it was opened."""

    def __init__(self, port: int) -> None:
        self._there = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.is_cut = False
        self.url = ""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Both ends see the other one go, and no new connection is made."""
        self.is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        self.is_cut = False

    def close(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        other: asyncio.StreamWriter | None = None
        with suppress(OSError):
            if not self.is_cut:
                far, other = await asyncio.open_connection("127.0.0.1", self._there)
                self._writers.add(other)
                if not self.is_cut:  # meanwhile
                    await asyncio.gather(_copied(reader, other), _copied(far, writer))
        for one in (writer, other):
            if one is not None:
                self._writers.discard(one)
                one.transport.abort()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
