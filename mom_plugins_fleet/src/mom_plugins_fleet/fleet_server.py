"""What a coordinator answers to Prometheus: where all hosts' metrics are, and its own. Each connection is one request, and a short one."""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import h11

from mom_core import MomError, printable, read_secret
from mom_toolkit import Address

REQUEST_SECONDS: Final = 10.0
"""How long a connection may take in all, TLS apart: a list of 10,000 hosts is 2 MB."""

MOST_CLIENTS: Final = 64
"""Connections at once. Further ones are closed: a Prometheus asks once a minute."""

RELOAD_SECONDS: Final = 60.0
"""How often the certificate is read again: it is replaced every few weeks, while coordinators run for months."""

SHORTEST_TOKEN: Final = 16
"""Characters: a shorter one can be guessed."""

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class AnswerBody:
    """The body of an answer and its type; None: it is not known yet."""

    body: str | None
    kind: str = _TEXT


@dataclass(frozen=True, slots=True)
class GuardedAddress:
    """Where a coordinator listens, and for whom. Raises `MomError` where others could read along.

    :param token: the file with what a client must know
    :param certificate: with its chain, as PEM; None: in the clear, on this host only
    """

    address: Address
    token: Path
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if self.address.path or (self.certificate is None) != (self.key is None):
            raise MomError("a coordinator listens at a TCP port, with a certificate and its key, or with neither of them")
        if self.certificate is None and not self.address.is_local:
            raise MomError(f"at {self.address} other machines could read along", hint="give --certificate and --certificate-key")
        self.secret()
        self.tls()

    def secret(self) -> bytes:
        """The token. Raises `MomError`."""
        make = f"make one: openssl rand -hex 32 > {self.token}"
        found = read_secret(self.token, "the token", make, group=True).strip()
        if len(found) < SHORTEST_TOKEN or not found.isascii() or any(character <= ord(" ") for character in found):
            raise MomError(f"{self.token} holds no token: {SHORTEST_TOKEN} or more ASCII characters without spaces", hint=make)
        return found

    def tls(self) -> ssl.SSLContext | None:
        """With the certificate as it is now. Raises `MomError`."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Have that used from the next connection on. Raises `MomError`."""
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except OSError as error:  # SSLError is one
                raise MomError(
                    f"the certificate {self.certificate} and its key cannot be used: {error}", hint="name files in PEM"
                ) from None


@asynccontextmanager
async def serving(place: GuardedAddress, answers: Mapping[str, Callable[[], AnswerBody]], log: logging.Logger) -> AsyncIterator[None]:
    """Answer GET requests at these paths. Raises `MomError` when it cannot be listened there."""
    server = _FleetServer(place, answers, log)
    tls = place.tls()
    handshake = None if tls is None else REQUEST_SECONDS
    try:
        listening = await asyncio.start_server(
            server.connected, place.address.host, place.address.port, ssl=tls, ssl_handshake_timeout=handshake
        )
    except OSError as error:
        raise MomError(f"it cannot be listened at {place.address}: {error.strerror}", hint="does another program listen there?") from None
    reloading = asyncio.create_task(server.reload(tls)) if tls is not None else None
    try:
        yield
    finally:
        if reloading is not None:
            reloading.cancel()
        listening.close()


class _FleetServer:
    def __init__(self, place: GuardedAddress, answers: Mapping[str, Callable[[], AnswerBody]], log: logging.Logger) -> None:
        self._place, self._answers, self._log = place, answers, log
        self._clients = 0

    async def reload(self, tls: ssl.SSLContext) -> None:
        """Read the certificate now and then."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            try:
                self._place.load(tls)
            except MomError as error:
                self._log.warning("%s; the one before stays", error)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self._clients += 1
        try:
            if self._clients <= MOST_CLIENTS:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await self._answer(reader, writer)
        except (TimeoutError, OSError, h11.ProtocolError):
            pass  # it has gone, or speaks something else
        finally:
            self._clients -= 1
            writer.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), REQUEST_SECONDS)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = h11.Connection(h11.SERVER)
        while True:
            event = wire.next_event()
            if event is h11.NEED_DATA:
                wire.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                break
            else:
                return
        status, answer = self._found(event)
        body = (answer.body or "").encode()
        headers = [
            ("content-type", answer.kind),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("connection", "close"),
        ]
        if status is HTTPStatus.UNAUTHORIZED:
            headers.append(("www-authenticate", "Bearer"))
        parts = (h11.Response(status_code=status, headers=headers), h11.Data(data=b"" if event.method == b"HEAD" else body))
        for part in (*parts, h11.EndOfMessage()):
            writer.write(wire.send(part) or b"")
        await writer.drain()

    def _found(self, request: h11.Request) -> tuple[HTTPStatus, AnswerBody]:
        headers = dict(request.headers)
        try:
            wanted = b"Bearer " + self._place.secret()
        except MomError as error:
            self._log.error("%s", error)
            return HTTPStatus.SERVICE_UNAVAILABLE, AnswerBody("the token of this server cannot be read\n")
        kind, _, token = headers.get(b"authorization", b"").partition(b" ")
        if not hmac.compare_digest(kind.capitalize() + b" " + token.strip(), wanted):
            return HTTPStatus.UNAUTHORIZED, AnswerBody("a token is needed: Authorization: Bearer TOKEN\n")
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        if path not in self._answers:
            return HTTPStatus.NOT_FOUND, AnswerBody(f"{printable(path, 100)} is not here; here are {', '.join(self._answers)}\n")
        if request.method not in (b"GET", b"HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, AnswerBody("only GET\n")
        answer = self._answers[path]()
        if answer.body is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, AnswerBody("how the fleet is is not known yet\n")
        return HTTPStatus.OK, answer
