"""API server: uvicorn's HTTP/1.1 with the peer's identity, limits and time limits, and a thread for slow jobs."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from asyncio.trsock import TransportSocket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Any, Final, TypeVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from mom_kvm import BoundedServer, Callers
from mom_plugins_http.server.access import LocalAccess, Peer, Right
from mom_plugins_http.server.problems import MEDIA_TYPE, ProblemError, problem_body

Result = TypeVar("Result")

MOST_CLIENTS: Final = 64
"""Maximum number of connections. At this limit, a new connection replaces one with the lowest right: with an incomplete request, or of the
user with most connections."""

LONGEST_HEAD: Final = 16 << 10
"""Maximum length of request line and headers, in bytes."""

IDLE_SECONDS: Final = 60
"""Longest wait for another request."""

PATIENCE_SECONDS: Final = 5.0
"""Longest time for a request to arrive, and for a client to read a part of an answer."""

_LOOK_SECONDS: Final = 1.0
"""Seconds between checks of connections."""

_HANDSHAKES: Final = 32
"""Maximum number of TLS handshakes at a time."""

_QUIET: Final = logging.Logger("connection")
_QUIET.disabled = True

UNKNOWN_PEER: Final = Peer("unknown", Right.NOTHING, local=False)


@dataclass(frozen=True, slots=True)
class Door(BoundedServer.Door):
    """Listening socket, and its rules.

    :param tls: returns the TLS context for a new connection
    :param keyed: every client needs a session of the web page
    """

    access: LocalAccess | None = None
    tls: Callable[[], ssl.SSLContext | None] | None = None
    keyed: bool = False


class _Parser(h11.Connection):
    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request) and any(name == b"transfer-encoding" for name, _ in event.headers):
            raise h11.RemoteProtocolError("a body in chunks")  # chunks of one byte would block all clients for seconds
        return event


class HttpConnection(H11Protocol):
    """Connection to one client."""

    def __init__(self, config: uvicorn.Config, state: ServerState, door: Door) -> None:
        super().__init__(config, state, {})
        self.logger = _QUIET
        self.access_log = False
        self.conn = _Parser(h11.SERVER, LONGEST_HEAD)
        self.peer = UNKNOWN_PEER
        """The peer with its highest right so far."""
        self._door = door
        self.since = self.loop.time()
        """Start of the connection."""
        self._head_began: float | None = self.since
        self._unsent = 0
        self._stuck_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Identify the peer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # streams have no other kind
        super().connection_made(transport)
        peer = self.peer = peer_of(transport.get_extra_info("socket"), self._door.access)
        if self._door.keyed:
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

    def send_400_response(self, msg: str) -> None:
        """Disconnect a client that sends malformed HTTP. Tell it why, unless an answer is in progress."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            detail = "this is not an HTTP/1.1 request, or its headers are too long, or its body is chunked"
            hint = f"send `Content-Length`; request line and headers may have at most {LONGEST_HEAD} bytes"
            body = problem_body(400, detail, hint)
            headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
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
        if any(began is not None and now - began > PATIENCE_SECONDS for began in (self._stuck_since, self._head_began)):
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


class Server(BoundedServer[Door]):
    """Server of an ASGI application in its own thread."""

    def __init__(self, app: Callable[..., Any], doors: Sequence[Door], log: logging.Logger) -> None:
        super().__init__(doors, MOST_CLIENTS, log)
        self._config = uvicorn.Config(
            app,
            http=HttpConnection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
        )
        self._config.load()
        self._state = ServerState()
        self._handshakes = 0

    def begin(self) -> None:
        """Start to check connections."""
        self.keep(self._look_after())

    def end(self) -> None:
        """End all connections."""
        for connection in self._connections():
            connection.transport.abort()

    @property
    def clients(self) -> int:
        """Count connections and handshakes."""
        return len(self._state.connections) + self._handshakes

    def takes(self, door: Door) -> bool:
        """Return whether this door accepts another client."""
        return door.tls is None or self._handshakes < min(_HANDSHAKES, self._most // 2)

    async def connect(self, door: Door, sock: socket.socket) -> None:
        """Start a connection, after a TLS handshake if needed."""
        loop = asyncio.get_running_loop()
        self._handshakes += 1
        try:
            await loop.connect_accepted_socket(
                lambda: HttpConnection(self._config, self._state, door),
                sock,
                ssl=None if door.tls is None else door.tls(),
                ssl_handshake_timeout=None if door.tls is None else PATIENCE_SECONDS,
            )
        except OSError:  # the client is gone, or does not use TLS (SSLError is an OSError)
            sock.close()
        except BaseException:
            sock.close()
            raise
        finally:
            self._handshakes -= 1

    def _connections(self) -> list[HttpConnection]:
        return [each for each in self._state.connections if isinstance(each, HttpConnection)]

    def make_room(self, door: Door, sock: socket.socket | None) -> bool:
        """End a connection with the lowest right: with an incomplete request, or of the user with most connections.

        Requests without a right always count as incomplete, so that strangers cannot block places. A complete request ends only for a
        client with a higher right, or with an equal right and two connections fewer.
        """
        open_ones = [each for each in self._connections() if not each.transport.is_closing()]
        held = Counter(each.peer.user for each in open_ones)
        weakest = min(open_ones, key=lambda each: (each.peer.right, each.answering, -held[each.peer.user], each.since), default=None)
        if weakest is None:
            return False
        if weakest.answering:
            newcomer, holder = peer_of(sock, door.access), weakest.peer
            right = max(newcomer.right, Right.READ)  # it may soon send a token
            if holder.right > right or (holder.right == right and held[holder.user] <= held[newcomer.user] + 1):
                return False
        self._state.connections.discard(weakest)
        weakest.transport.abort()
        return True

    async def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
            for connection in self._connections():
                connection.look_after(loop.time())
            await asyncio.sleep(_LOOK_SECONDS)


class Room:
    """Limited places, such as bytes of answers or waiting jobs. No user may hold more places than are left for others.

    :param what: the limited things, for the error message
    """

    def __init__(self, most: int, what: str) -> None:
        self.left = most
        """Number of free places."""
        self._what = what
        self._held: Counter[str] = Counter()

    @contextmanager
    def taken(self, user: str, size: int = 1) -> Iterator[None]:
        """Hold places. Raise `ProblemError` if there are too few.

        :param user: empty for requests that need a special right: they may take all places
        """
        if size > self.left or (user and self._held[user] + size > self.left):
            headers = {"connection": "close", "retry-after": "1"}
            raise ProblemError(503, f"too many {self._what} are waiting", "ask again in a moment", headers=headers)
        self.left -= size
        self._held[user] += size
        try:
            yield
        finally:
            self.left += size
            self._held[user] -= size
            self._held += Counter()  # drop users without places


class Worker:
    """Thread for slow jobs, one at a time. At most `most` jobs wait."""

    def __init__(self, name: str, what: str, most: int = 64) -> None:
        self._callers = Callers(name, 1)
        self.room = Room(most, what)

    async def run(self, job: Callable[[], Result], user: str = "") -> Result:
        """Return the job's result, or raise its error. Raise `ProblemError` if too many jobs are waiting.

        :param user: who asks, if the job needs no special right
        """
        with self.room.taken(user):
            return await asyncio.wrap_future(self._callers.start(job))

    def close(self, seconds: float) -> None:
        """End after the current job; wait at most `seconds`."""
        self._callers.close(seconds)
