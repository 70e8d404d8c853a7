"""uvicorn's HTTP/1.1, with the peer's identity and time limits."""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from mom_plugins_http.server.access import LocalAccess, Peer, Right
from mom_plugins_http.server.problems import MEDIA_TYPE, problem_body

LONGEST_HEAD: Final = 16 << 10
"""Maximum length of request line and headers, in bytes."""

IDLE_SECONDS: Final = 60
"""Longest wait for the next request."""

PATIENCE_SECONDS: Final = 5.0
"""Longest time for a request to arrive, and for a client to read a part of an answer."""

_QUIET: Final = logging.Logger("connection")
_QUIET.disabled = True

UNKNOWN_PEER: Final = Peer("unknown", Right.NOTHING, local=False)


class _Parser(h11.Connection):
    # Chunked bodies are refused: chunks of one byte would block all clients for seconds.

    chunked = False

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request) and any(name == b"transfer-encoding" for name, _ in event.headers):
            self.chunked = True
            raise h11.RemoteProtocolError("a body in chunks", error_status_hint=411)
        return event


class HttpConnection(H11Protocol):
    """Connection to one client.

    :param keyed: only a session of the page identifies the peer
    """

    def __init__(self, config: uvicorn.Config, state: ServerState, access: LocalAccess | None, *, keyed: bool = False) -> None:
        super().__init__(config, state, {})
        self.logger = _QUIET
        self.access_log = False
        self.conn = _Parser(h11.SERVER, LONGEST_HEAD)
        self.peer = UNKNOWN_PEER
        """The peer with its highest right so far."""
        self._access = access
        self._keyed = keyed
        self.since = self.loop.time()
        """End of the last answer, or start of the connection."""
        self._head_began: float | None = None
        self._unsent = 0
        self._stuck_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Identify the peer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # streams have no other kind
        super().connection_made(transport)
        peer = self.peer = peer_of(transport.get_extra_info("socket"), self._access)
        if self._keyed:
            peer = replace(peer, name=f"a browser through {peer.name}", right=Right.NOTHING, keyed=True)
        self.app_state = {"peer": peer, "entitle": self.entitle}

    def entitle(self, right: Right) -> None:
        """Record the right that a request has proved. Headers alone prove no right."""
        self.peer = replace(self.peer, right=max(self.peer.right, right))

    @property
    def busy(self) -> bool:
        """Whether mom has a request's headers but has not finished the answer."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def answering(self) -> bool:
        """Whether mom is answering a complete request from a peer that has any right."""
        return self.busy and not self.cycle.more_body and self.peer.right is not Right.NOTHING

    def data_received(self, data: bytes) -> None:
        """Record when a request starts to arrive."""
        if not self.busy and self._head_began is None:
            self._head_began = self.loop.time()
        super().data_received(data)
        if self.busy:
            self._head_began = None

    def on_response_complete(self) -> None:
        """Record when the client becomes silent."""
        self.since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Disconnect a client that sends malformed HTTP. Tell it why, unless an answer is in progress."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            status, detail = 400, "this is not an HTTP/1.1 request, or its headers are too long"
            hint = f"request line and headers may have at most {LONGEST_HEAD} bytes"
            if isinstance(self.conn, _Parser) and self.conn.chunked:
                status, detail, hint = 411, "chunked bodies are not supported", "send the body's length: `Content-Length`"
            body = problem_body(status, detail, hint)
            headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def look_after(self, now: float) -> None:
        """Disconnect a client that is too slow. Called about every second."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = now
        self._unsent = unsent
        slow = any(began is not None and now - began > PATIENCE_SECONDS for began in (self._stuck_since, self._head_began))
        if slow or (not self.busy and now - self.since > IDLE_SECONDS):
            self.transport.abort()


def peer_of(sock: socket.socket | TransportSocket | None, access: LocalAccess | None) -> Peer:
    """Return the peer of a socket; `UNKNOWN_PEER` if the peer is gone. `access` is None for TCP."""
    try:
        if sock is None:
            return UNKNOWN_PEER
        if access is None:
            return Peer(str(sock.getpeername()[0]), Right.NOTHING, local=False)
        return access.peer(sock)
    except OSError:
        return UNKNOWN_PEER


def server_config(app: Callable[..., Any]) -> uvicorn.Config:
    """Return uvicorn's settings."""
    config = uvicorn.Config(
        app,
        http=HttpConnection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
    )
    config.load()
    return config
