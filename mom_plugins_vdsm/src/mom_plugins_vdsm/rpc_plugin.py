"""The xmlrpc plugin: MOM's RPC server for vdsm and MOM's clients, with limits on time and size."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import logging
import re
import socket
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from mom_core import Finding, PluginContext, PluginSettings, Problem, Report, Severity, Source, Suggestion, hookimpl, printable
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
            left = _MOST_AFTER  # a client reads only after it has sent everything
            while left > 0 and (piece := await reader.read(_PIECE)):
                left -= len(piece)


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


VDSM_SOCKET = "/run/vdsm/mom-vdsm.sock"
"""Path at which vdsm expects mom's socket (vdsm's option `[mom] socket_path`)."""


_LOOPBACK = "127.0.0.1"


def _an_address(text: str) -> str:
    Address.parse(text, _LOOPBACK)
    return text


class XmlRpcPlugin:
    """Server of MOM's XML-RPC verbs. All clients can read statistics and policies. Clients with permission can also change policies."""

    class Settings(PluginSettings):
        """Server's address, and what clients may do."""

        listen: Annotated[str, AfterValidator(_an_address)] = VDSM_SOCKET
        """Address of the server: the path of a unix socket, a port (on 127.0.0.1), or host:port. Every client can read statistics and
        policies."""
        mode: Annotated[str, Field(pattern="^0?[0-7]{1,3}$")] = "0600"
        """Permissions of the unix socket. Every user who can connect can change policies. vdsm runs as the same user as mom, so no other
        user needs access."""
        changes_over_tcp: bool = False
        """Also let TCP clients change policies and the log level. XML-RPC has no authentication, so any user of this host can then replace
        all policies. If the address is not a loopback address, other machines can do so, too."""

    def __init__(self, settings: Settings, context: PluginContext) -> None:
        self._settings = settings
        self._context = context
        self._address = Address.parse(settings.listen, _LOOPBACK)
        self._subject = f"XML-RPC on {self._address}"
        by_path = bool(self._address.path)
        self._verbs = Verbs(context, str(self._address), nil=by_path, read_only=not by_path and not settings.changes_over_tcp)
        self._server: RpcServer | None = None

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        if not (root / "run/vdsm").is_dir():
            return None
        return Suggestion("vdsm asks mom for statistics, and sets policies", {"listen": VDSM_SOCKET}, order=81)

    @hookimpl
    def mom_setup(self) -> None:
        if not self._context.serves:
            return
        settings, log = self._settings, self._context.log
        door = partial(self._address.listen, mode=int(settings.mode, 8))
        self._server = RpcServer(door, self._verbs, log)
        self._server.start(self._context.name)
        for finding in self._exposed():
            log.warning("%s: %s; %s", finding.subject, finding.message, finding.cure)
        log.info("XML-RPC on %s%s", self._address, ", read only" if self._verbs.read_only else "")

    @hookimpl
    def mom_problems(self) -> Iterable[Problem]:
        # vdsm reports to its engine that these policies are in force.
        for problem, in_force in self._verbs.refused():
            yield Problem(Source(self._context.name), problem, severity=Severity.WARNING, hint=in_force)

    @hookimpl
    def mom_report(self, report: Report) -> None:
        self._verbs.note(report)

    @hookimpl
    def mom_teardown(self) -> None:
        if self._server is not None:
            self._server.close()

    @hookimpl
    def mom_doctor(self) -> Iterable[Finding]:
        path = Path(self._address.path)
        if self._address.path and not path.parent.is_dir():
            cure = "create the folder; under oVirt, install and start vdsm"
            return [Finding(Severity.ERROR, self._subject, f"the folder {path.parent} is missing", cure)]
        return self._exposed() or [Finding(Severity.OK, self._subject, "only clients with permission can change policies")]

    def _exposed(self) -> list[Finding]:
        address, cure = self._address, "listen on a unix socket with mode 0600, such as /run/mom/rpc.sock"
        who = "any account of this host" if address.is_local else "any program that reaches this address from another host"
        if address.path:
            exposed = f"the socket's mode {self._settings.mode} lets any account of this host replace all policies"
            if not int(self._settings.mode, 8) & 0o002:
                return []
        elif not self._verbs.read_only:
            exposed = f"{who} can replace all policies: XML-RPC has no authentication"
        elif address.is_local:
            return []
        else:
            exposed = f"{who} can read the statistics of all guests and the policies: XML-RPC has no authentication"
        return [Finding(Severity.WARNING, self._subject, exposed, cure)]
