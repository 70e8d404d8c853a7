"""Limit for bytes that the server holds: received bodies, and unread answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MOST_BYTES: Final = 64 << 20
"""Limit of all bodies together, in bytes."""

PIECE: Final = 64 << 10


class Holder(Protocol):
    """Owner of a body in memory."""

    @property
    def body(self) -> bytes | bytearray | memoryview:
        """Body's bytes so far."""


class HeldBytes:
    """Bodies held for clients, each counted once.

    If a body does not fit, the server closes the connections whose bodies it has held longest.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._held: dict[Holder, Callable[[], object]] = {}
        self._kept: set[Holder] = set()

    def begin(self, holder: Holder, end_connection: Callable[[], object]) -> None:
        """Start to count this body."""
        self._held[holder] = end_connection

    def fits(self, holder: Holder) -> bool:
        """Make room for a new or larger body. Return False if protected bodies leave no room."""
        while self.size > self._most and self._held.keys() - {holder}:
            longest = next((each for each in self._held if each is not holder and each not in self._kept), None)
            if longest is None:
                return False
            self._held.pop(longest)()
        return True

    def keep(self, holder: Holder) -> None:
        """Protect a complete request, because its work may have begun."""
        if holder in self._held:
            self._kept.add(holder)

    def end(self, holder: Holder) -> None:
        """Stop counting this body."""
        self._held.pop(holder, None)
        self._kept.discard(holder)

    @property
    def size(self) -> int:
        """Bytes of all bodies."""
        return sum({id(each.body): len(each.body) for each in self._held}.values())


class Sending(Response):
    """Response that is sent in pieces, as fast as the client reads.

    :param unread: counts the body until the connection has the last piece
    """

    def __init__(self, response: Response, unread: HeldBytes, end_connection: Callable[[], None]) -> None:
        self.status_code = response.status_code
        self.body = response.body
        self.background = None
        self.raw_headers = response.raw_headers
        self._unread = unread
        self._end_connection = end_connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. Return when the connection has the last piece, or the client is gone."""
        self._unread.begin(self, self._end_connection)
        self._unread.fits(self)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), PIECE):
                await send({"type": "http.response.body", "body": bytes(self.body[start : start + PIECE]), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._unread.end(self)
