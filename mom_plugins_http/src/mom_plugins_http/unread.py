"""Answers that clients have not read yet: sent in pieces, and no more of them than memory is meant for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MOST_BYTES: Final = 64 << 20
"""Of all answers that are being sent. A hundred clients that read what they ask for need a few of the largest answers at a time."""

PIECE: Final = 64 << 10
"""Bytes that are given to a connection at once; it takes no more while its client does not read."""


class UnreadAnswers:
    """The bodies that are being sent. One that several clients wait for is in memory once, and counts once.

    Where a new one does not fit, the connections end that have been taking their answers for longest: who reads is done before.
    """

    def __init__(self, most: int = MOST_BYTES) -> None:
        self._most = most
        self._taking: dict[Sending, Callable[[], None]] = {}

    def begin(self, sending: Sending, end_connection: Callable[[], None]) -> None:
        """Count an answer from now on, and make room for it."""
        self._taking[sending] = end_connection
        while self.size > self._most and len(self._taking) > 1:
            longest = next(iter(self._taking))
            self._taking.pop(longest)()

    def end(self, sending: Sending) -> None:
        """Count it no longer."""
        self._taking.pop(sending, None)

    @property
    def size(self) -> int:
        """Bytes of all bodies together."""
        return sum({id(one.body): len(one.body) for one in self._taking}.values())


class Sending(Response):
    """A response whose body goes to the connection in pieces.

    :param made: status, headers and body
    """

    def __init__(self, made: Response, unread: UnreadAnswers, end_connection: Callable[[], None]) -> None:
        self.status_code = made.status_code
        self.body = made.body
        self.background = None
        self.raw_headers = made.raw_headers
        self._unread = unread
        self._end_connection = end_connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; returns when the last piece is the connection's, or the client has gone."""
        self._unread.begin(self, self._end_connection)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for at in range(0, len(self.body), PIECE):
                await send({"type": "http.response.body", "body": bytes(self.body[at : at + PIECE]), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._unread.end(self)
