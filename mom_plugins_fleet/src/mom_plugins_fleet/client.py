"""NATS client that limits the harm a malicious server can do."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
from contextlib import suppress
from typing import Any, Final
from urllib.parse import ParseResult

import nats.errors
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from mom_core import printable

LARGEST_MESSAGE: Final = 1 << 20
"""Limit of a message in bytes, as nats-server's default."""

LARGEST_LINE: Final = 64 << 10

SPEAKS_SECONDS: Final = 1.0
"""A `tls://` server silent for this long is waiting for TLS (`handshake_first`)."""

GOODBYE_SECONDS: Final = 1.0
"""Time limit for the TLS close message."""

_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{11,64}")
"""mom signs servers' strings only if they match, so that it signs no record."""

_KNOWS_TLS: Final = b'"tls_'

_NOT_LET_IN: Final = (
    "the servers refuse this key: it was revoked or replaced, or belongs to another fleet; "
    "`mom fleet enroll HOST --group GROUP --token` gives a host a new key"
)


class FleetClient(Client):
    """NATS client that connects only to the given servers.

    :param certificate: SHA-256 of the servers' certificate; if empty, `tls` checks the certificate
    """

    def __init__(self, tls: ssl.SSLContext | None, certificate: bytes = b"") -> None:
        super().__init__()
        self._ps = _BoundedParser(self)
        self._transport = self._own = _Transport(tls, certificate)

    @property
    def certificate(self) -> bytes:
        """SHA-256 of the server's certificate; empty without TLS."""
        return self._own.certificate

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # A malicious server may announce any address.
        await super()._process_info({key: value for key, value in info.items() if key != "connect_urls"}, initial_connection)

    def _connect_command(self) -> bytes:
        nonce = self._server_info.get("nonce", "")
        if nonce and not (isinstance(nonce, str) and _NONCE.fullmatch(nonce)):
            raise nats.errors.Error("mom did not sign the data that the server sent, because it is not a NATS nonce")
        return super()._connect_command()

    async def _process_connect_init(self) -> None:
        # Errors that the library does not expect would end its attempts.
        try:
            await super()._process_connect_init()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            if "authorization violation" in str(error).lower():
                raise nats.errors.Error(_NOT_LET_IN) from error
            raise
        except Exception as error:  # the library may raise anything for an invalid server message
            raise nats.errors.Error(f"cannot start a connection: {printable(str(error) or type(error).__name__, 200)}") from error


class _BoundedParser(Parser):
    async def parse(self, data: bytes = b"") -> None:
        await super().parse(data)
        if len(self.buf) > LARGEST_LINE if self.state == AWAITING_CONTROL_LINE else self.needed > LARGEST_MESSAGE:
            self.reset()
            raise nats.errors.ProtocolError


class _Transport(TcpTransport):
    # Nothing goes to `tls://` addresses before the TLS handshake.

    def __init__(self, tls: ssl.SSLContext | None, wanted: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped library
        self._tls, self._wanted = tls, wanted
        self.certificate = b""
        self._first = b""

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        await super().connect(uri, buffer_size, connect_timeout)
        self._first = b""
        if uri.scheme == "tls" and self._tls is not None:
            with suppress(TimeoutError):
                self._first = await asyncio.wait_for(self.readline(), SPEAKS_SECONDS)
            try:
                await self.connect_tls(uri, self._tls, buffer_size, connect_timeout)
            except ssl.SSLCertVerificationError:
                raise
            except (OSError, TimeoutError) as error:
                self.close()  # type: ignore[no-untyped-call]  # untyped library
                name = printable(uri.hostname or "", 200)
                if isinstance(error, TimeoutError) and (not self._first or _KNOWS_TLS in self._first):
                    raise nats.errors.Error(f"{name} did not answer within {connect_timeout} s") from error
                raise nats.errors.Error(f"{name} does not offer TLS, which tls:// requires: configure `tls` in nats-server") from error

    async def connect_tls(self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int) -> None:
        clear, loop = self._bare_io_writer, asyncio.get_running_loop()
        if clear is not None and self._io_writer is clear:  # otherwise the library asks to upgrade again
            reader = asyncio.StreamReader()  # drop any plaintext received after the first line
            protocol, name = _TlsProtocol(reader), uri if isinstance(uri, str) else uri.hostname
            context = self._tls or ssl_context
            begun = loop.start_tls(clear.transport, protocol, context, server_hostname=name, ssl_shutdown_timeout=GOODBYE_SECONDS)
            transport = await asyncio.wait_for(begun, connect_timeout)
            if transport is None:
                raise ConnectionResetError("the server closed the connection")
            self.certificate = hashlib.sha256(transport.get_extra_info("ssl_object").getpeercert(binary_form=True)).digest()
            if self._wanted not in (b"", self.certificate):
                transport.abort()
                raise nats.errors.Error(f"{name} has a different certificate than the token says; mom sent nothing to it")
            self._io_reader, self._io_writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def readline(self) -> bytes:
        first, self._first = self._first, b""
        try:
            return first or await super().readline()  # type: ignore[no-untyped-call]  # untyped library
        except ValueError:
            raise nats.errors.ProtocolError from None

    async def wait_closed(self) -> None:
        # Errors while the connection closes would replace the reason for closing.
        with suppress(OSError):
            await super().wait_closed()  # type: ignore[no-untyped-call]  # untyped library

    def __bool__(self) -> bool:
        return True  # otherwise the library replaces this transport


class _TlsProtocol(asyncio.StreamReaderProtocol):
    # TLS has no half-open connections, and asyncio would warn.

    def eof_received(self) -> bool:
        super().eof_received()
        return False
