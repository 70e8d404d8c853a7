"""A stream that is plain or TLS, in the test peer. asyncio's own TLS closes a connection without the alert that says why; vdsm sends it."""

import asyncio
import ssl

_HANDSHAKE_SECONDS = 10.0
_PIECE = 65536


class Stream:
    """Bytes to and from one client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._tls: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands; raises `ssl.SSLError` after the client was told why not."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        async with asyncio.timeout(_HANDSHAKE_SECONDS):
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    self._flush()
                    piece = await self._reader.read(_PIECE)
                    if not piece:
                        raise ConnectionError from None
                    self._incoming.write(piece)
                else:
                    return
                finally:
                    self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._writer.is_closing():
            self._writer.write(data)

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        while True:
            if self._tls is not None:
                try:
                    return self._tls.read(_PIECE)
                except ssl.SSLWantReadError:
                    self._flush()
            piece = await self._reader.read(_PIECE)
            if not piece or self._tls is None:
                return piece
            self._incoming.write(piece)

    def write(self, data: bytes) -> None:
        if self._tls is None:
            self._writer.write(data)
            return
        for start in range(0, len(data), _PIECE):
            self._tls.write(data[start : start + _PIECE])
        self._flush()

    async def drain(self) -> None:
        await self._writer.drain()

    def is_closing(self) -> bool:
        return self._writer.is_closing()

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.transport.abort()
