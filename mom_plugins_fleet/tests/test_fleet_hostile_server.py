"""Hostile or wrong servers: what hosts send them, accept from them, and which servers hosts use for them."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, cast

import nkeys  # type: ignore[import-untyped]  # it has no types
import pytest
from nats.aio.transport import TcpTransport

from mom_plugins_fleet.client import Access
from mom_plugins_fleet.link import LinkError, Store, linked

LOG = logging.getLogger("test")
NONCE = "4GVYcOFLtCVSCKA"
"""Nonce in the form of a real server's."""


class FakeServer:
    """Server with set answers that records requests.

    :param info: additional information about itself
    :param then: function for admitted clients
    """

    def __init__(self, info: dict[str, Any] | str, then: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]] | None = None) -> None:
        self._info, self._then = info, then
        self.clients = 0
        self.heard = b""
        self.port = 0

    async def __aenter__(self) -> FakeServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def upgrade(self, writer: asyncio.StreamWriter) -> None:
        """Do nothing: the connection stays in plain text."""

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients += 1
        whole = {"server_id": "s", "version": "2.9.10", "headers": True, "max_payload": 1 << 20}
        said = self._info if isinstance(self._info, str) else json.dumps({**whole, **self._info})
        try:
            writer.write(f"INFO {said}\r\n".encode())
            await self.upgrade(writer)
            while line := await reader.readline():
                self.heard += line
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
                    if self._then is not None:
                        await self._then(writer)
        except (OSError, ValueError):
            pass
        writer.close()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_fleet.link.AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("mom_plugins_fleet.link.CONNECT_SECONDS", 1.5)


def credentials() -> str:
    return (
        "-----BEGIN NATS USER JWT-----\ne30.e30.e30\n-----BEGIN USER NKEY SEED-----\n"
        + nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode()
        + "\n---"
    )


def within(seconds: float) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Return a decorator that runs an asynchronous test with a time limit."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        return wraps(test)(lambda *args, **given: asyncio.run(asyncio.wait_for(test(*args, **given), seconds)))

    return decorate


async def refused(url: str, why: str, ca: Path | None = None) -> None:
    with pytest.raises(LinkError, match=why):
        async with linked(Access([url], ca, credentials()), "h1", LOG, patient=False):
            pass


@pytest.mark.parametrize("nonce", ['["mom fleet", "mom-orders", "h1", 7]\n{"moves":[]}', "x" * 100, "AAAAAAAAAAA\n", 7])
@within(30)
async def test_a_server_gets_no_signature_of_anything_but_a_nonce(nonce: object) -> None:
    async with FakeServer({"auth_required": True, "nonce": nonce}) as server:
        await refused(f"nats://127.0.0.1:{server.port}", "not a NATS nonce")
        assert b"CONNECT" not in server.heard


@pytest.mark.long
@within(30)
async def test_nothing_is_told_in_the_clear_to_a_server_that_was_to_be_spoken_to_by_tls() -> None:
    async with FakeServer({"auth_required": True, "nonce": NONCE}) as server:
        await refused(f"tls://127.0.0.1:{server.port}", "does not offer TLS, which tls:// requires")
        assert server.clients
        assert b"CONNECT" not in server.heard


@within(30)
async def test_a_key_that_is_let_in_no_more_is_said_to_be_though_the_server_has_hung_up_then(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hung_up(_: TcpTransport) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    class Refuses(FakeServer):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f'INFO {{"auth_required": true, "nonce": "{NONCE}"}}\r\n'.encode())
            await reader.readline()
            writer.write(b"-ERR 'Authorization Violation'\r\n")
            writer.close()

    monkeypatch.setattr(TcpTransport, "wait_closed", hung_up)
    async with Refuses({}) as server:
        await refused(f"nats://127.0.0.1:{server.port}", "the servers refuse this key: it was revoked or replaced")


@within(30)
async def test_servers_that_a_server_names_are_not_gone_to() -> None:
    async def leave(writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"connect_urls": ["127.0.0.1:%d"]}\r\n' % other.port)
        await writer.drain()
        writer.close()

    other = FakeServer({})

    async with other:
        named = FakeServer({"connect_urls": [f"127.0.0.1:{other.port}"]}, leave)
        async with named, linked(Access([f"nats://127.0.0.1:{named.port}"]), "h1", LOG, patient=True):
            while named.clients < 4:
                await asyncio.sleep(0.01)
        assert not other.clients


@pytest.mark.parametrize("head", [b"MSG a 1 734003200\r\n", b"HMSG a 1 12 734003200\r\n", b"", b"INFO {"])
@within(60)
async def test_a_message_that_is_too_large_is_not_kept(head: bytes) -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head)
        while sent < 64 << 20:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    largest, server = 0, FakeServer({}, flood)
    async with server, linked(Access([f"nats://127.0.0.1:{server.port}"]), "h1", LOG, patient=True) as store:
        while server.clients < 3:  # the host disconnects, and tries again
            largest = max(largest, kept(store))
            assert sent < 64 << 20, "all of it was taken"
            await asyncio.sleep(0.001)
    assert largest <= 2 << 20


def kept(store: Store) -> int:
    return len(store.client._ps.buf)


@pytest.mark.parametrize("info", ["[]", "{", "x" * 100_000])
@within(30)
async def test_a_server_that_says_nonsense_of_itself_is_left_and_tried_again(info: str) -> None:

    async def leave(writer: asyncio.StreamWriter) -> None:
        server._info = info  # the next time
        writer.close()

    server = FakeServer({}, leave)

    async with server, linked(Access([f"nats://127.0.0.1:{server.port}"]), "h1", LOG, patient=True):
        while server.clients < 4:
            await asyncio.sleep(0.01)


class Hanging(FakeServer):
    """Server that admits its first client and disconnects it. Later connections get no answer."""

    open = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        if self.clients:
            self.clients += 1
            await reader.read()
            writer.close()
        else:
            await super()._serve(reader, writer)
        self.open -= 1


@within(60)
async def test_a_server_that_hangs_for_hours_costs_the_host_no_more_than_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_fleet.link.CONNECT_SECONDS", 0.05)

    async def leave(writer: asyncio.StreamWriter) -> None:
        await writer.drain()
        writer.close()

    server = Hanging({}, leave)
    async with server:
        async with linked(Access([f"nats://127.0.0.1:{server.port}"]), "h1", LOG, patient=True):
            while server.clients < 8:
                await asyncio.sleep(0.01)
            assert server.open <= 2, "the one before may be about to end"
        while server.open:
            await asyncio.sleep(0.01)


class TlsServer(FakeServer):
    """Server with TLS."""

    def __init__(self, folder: Path, then: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]] | None = None) -> None:
        super().__init__({"tls_required": True, "auth_required": True, "nonce": NONCE}, then)
        self.certificate, key = folder / "cert.pem", folder / "key.pem"
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
        subprocess.run([*made, "-keyout", key, "-out", self.certificate], check=True, capture_output=True, timeout=60)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(self.certificate, key)

    async def upgrade(self, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(self._context)


@pytest.mark.long
@pytest.mark.processes
def test_a_server_is_spoken_to_by_tls_and_its_certificate_is_verified(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @within(30)
    async def work() -> None:
        server = TlsServer(tmp_path)
        async with server:
            url = f"tls://localhost:{server.port}"
            async with linked(Access([url], server.certificate, credentials()), "h1", LOG, patient=False):
                assert b'"sig"' in server.heard
            await refused(url, "certificate")  # a certificate that the system does not trust

    work()
    assert not caplog.records, "asyncio warns of nothing"


@pytest.mark.long
@pytest.mark.processes
@within(20)
async def test_a_server_that_hangs_behind_tls_is_left_though_it_says_no_goodbye(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mom_plugins_fleet.link.PING_SECONDS", 0.1)
    monkeypatch.setattr("mom_plugins_fleet.client.GOODBYE_SECONDS", 0.1)

    hung: list[asyncio.Transport] = []

    async def hang(writer: asyncio.StreamWriter) -> None:
        hung.append(cast(asyncio.Transport, writer.transport))
        hung[-1].pause_reading()

    server = TlsServer(tmp_path, hang)
    async with server:
        access = Access([f"tls://localhost:{server.port}"], server.certificate, credentials())
        async with linked(access, "h1", LOG, patient=True):
            while server.clients < 2:
                await asyncio.sleep(0.01)
        for one in hung:
            one.abort()
        await asyncio.sleep(0.1)
