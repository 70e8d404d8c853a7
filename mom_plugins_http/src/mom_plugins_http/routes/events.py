"""`/v1/events`: server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from starlette.responses import Response, StreamingResponse

from mom_daemon import json_text
from mom_daemon.report_models import StatusModel
from mom_plugins_http.routes.news import Item, NewPoliciesModel, NewReservationsModel
from mom_plugins_http.routes.published import Published
from mom_plugins_http.routes.route import ApiCall, Route

MEDIA_TYPE: Final = "text/event-stream"

BEAT_SECONDS: Final = 15.0
"""Seconds between comments that keep proxies connected and show mom lost clients."""

_WAITING_EVENTS: Final = 16
"""Maximum number of events that wait for a client. mom disconnects slower clients."""


class Events:
    """Source of the event streams. All methods run in the server's thread."""

    def __init__(self, published: Published) -> None:
        self._published = published
        self.streams: set[asyncio.Queue[bytes]] = set()
        """Waiting events of each client."""

    def tell(self, news: Sequence[Item]) -> None:
        """Send other news and the last cycle's status to all clients."""
        events = [*(_event(item.name, json_text(item.content)) for item in news), *self._cycle()]
        for waiting in list(self.streams):
            if waiting.qsize() + len(events) > _WAITING_EVENTS:
                self.streams.discard(waiting)
                continue
            for event in events:
                waiting.put_nowait(event)

    def _cycle(self) -> list[bytes]:
        return [] if self._published.newest is None else [_event("cycle", self._published.status())]

    @Route(
        "GET",
        "/v1/events",
        str,
        media_type=MEDIA_TYPE,
        events={"cycle": StatusModel, "reservations": NewReservationsModel, "policies": NewPoliciesModel},
    )
    async def events(self, call: ApiCall) -> Response:
        """Send the state of mom at once and after each cycle, as an event `cycle`. `GET /v1/report` has the rest of the cycle."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        if call.request.method == "HEAD":
            return Response(headers=headers, media_type=MEDIA_TYPE)
        return StreamingResponse(self._stream(call), headers=headers, media_type=MEDIA_TYPE)

    async def _stream(self, call: ApiCall) -> AsyncIterator[bytes]:
        waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self.streams.add(waiting)
        try:
            yield b"retry: 2000\n\n"
            for event in self._cycle():
                yield event
            while waiting in self.streams:
                try:
                    event = await asyncio.wait_for(waiting.get(), BEAT_SECONDS)
                except TimeoutError:
                    event = b": still here\n\n"
                if not call.still_allowed():
                    break
                yield event
        finally:
            self.streams.discard(waiting)


def _event(name: str, content: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), content)
