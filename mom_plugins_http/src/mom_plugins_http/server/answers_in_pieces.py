"""Answers that are larger than a connection takes at once: sent in pieces, as fast as the client reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mom_plugins_http.server.held_bytes import HeldBytes

PIECE: Final = 64 << 10
"""Bytes that are given to a connection at once; it takes no more while its client does not read."""


class Sending(Response):
    """A response whose body goes to the connection in pieces.

    :param made: status, headers and body
    :param unread: where it counts until the connection has taken the last piece
    """

    def __init__(self, made: Response, unread: HeldBytes, end_connection: Callable[[], None]) -> None:
        self.status_code = made.status_code
        self.body = made.body
        self.background = None
        self.raw_headers = made.raw_headers
        self._unread = unread
        self._end_connection = end_connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; returns when the last piece is the connection's, or the client has gone."""
        self._unread.begin(self, self._end_connection)
        self._unread.fits(self)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for at in range(0, len(self.body), PIECE):
                await send({"type": "http.response.body", "body": bytes(self.body[at : at + PIECE]), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._unread.end(self)
