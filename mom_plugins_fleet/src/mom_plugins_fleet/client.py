"""Access to the fleet's NATS servers, and a client that limits the harm a malicious server can do."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import ParseResult, urlsplit

import nats.errors
from nats.aio.client import Client, RawCredentials
from nats.aio.transport import TcpTransport
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from mom_core import MomError, printable, read_secret
from mom_plugins_fleet.records import a_server

LARGEST_MESSAGE: Final = 1 << 20
"""Limit of a message in bytes, as nats-server's default."""

LARGEST_LINE: Final = 64 << 10

GOODBYE_SECONDS: Final = 1.0
"""Time limit for the end of a connection, which a hung server would delay."""

_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{11,64}")
"""mom signs servers' strings only if they match, so that it signs no record."""

_NOT_LET_IN: Final = (
    "the servers refuse this key: it was revoked or replaced, or belongs to another fleet; "
    "`mom fleet enroll HOST --group GROUP --new-key` gives a host a new key"
)


class FleetClient(Client):
    """NATS client that connects only to the given servers, and to `tls://` addresses only by TLS."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = _BoundedParser(self)
        self._transport = _Transport()  # type: ignore[no-untyped-call]  # untyped library

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        if initial_connection and server is not None and server.uri.scheme == "tls" and not info.get("tls_required"):
            name = printable(server.uri.hostname or "", 200)
            raise nats.errors.Error(f"{name} does not offer TLS, which tls:// requires: configure `tls` in nats-server")
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
    async def connect_tls(self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int) -> None:
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)
        if self._io_writer is not None:
            protocol: Any = self._io_writer.transport.get_protocol()
            protocol._over_ssl = True  # TLS has no half-open connections, and asyncio would warn

    async def wait_closed(self) -> None:
        # Errors while the connection closes would replace the reason for closing.
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(super().wait_closed(), GOODBYE_SECONDS)  # type: ignore[no-untyped-call]  # untyped library

    def __bool__(self) -> bool:
        return True  # otherwise the library replaces this transport


_MAKE: Final = "`mom fleet key` and `mom fleet enroll` make one"


@dataclass(frozen=True, slots=True)
class Access:
    """Servers, how to verify their certificate, and the client's credentials: a file, or text in NATS' format."""

    servers: Sequence[str]
    ca: Path | None = None
    credentials: Path | str | None = None

    def __post_init__(self) -> None:
        try:
            for server in self.servers:
                a_server(server)
        except ValueError as error:
            raise MomError(str(error)) from None

    def options(self) -> dict[str, Any]:
        """Return options for the NATS library. Raise `MomError` for unusable files."""
        options: dict[str, Any] = {}
        if any(urlsplit(server).scheme == "tls" for server in self.servers):
            try:
                options["tls"] = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            except OSError as error:
                raise MomError(f"the certificates {self.ca} cannot be read: {error.strerror}", hint="use a PEM file") from None
        if isinstance(self.credentials, Path):
            if b"BEGIN USER NKEY SEED" not in read_secret(self.credentials, "the key", _MAKE):
                raise MomError(f"{self.credentials} contains no NATS credentials", hint=_MAKE)
            options["user_credentials"] = str(self.credentials)  # read again for each connection, because keys are replaced
        elif self.credentials is not None:
            options["user_credentials"] = RawCredentials(self.credentials)
        return options
