"""`/v1/events`: a server-sent event for each cycle, and for what changes beside figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from starlette.responses import Response, StreamingResponse

from mom_plugins_http.json_text import encoded
from mom_plugins_http.news import Item
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.published import Published, ReportView, Subscriber
from mom_plugins_http.report_routes import event_of
from mom_plugins_http.routes import ApiCall

MEDIA_TYPE: Final = "text/event-stream"

BEAT_SECONDS: Final = 15.0
"""How often a comment is sent when there are no cycles, so that proxies keep the connection, and mom notices who is gone."""


class Events:
    """The clients that listen. All of it runs in the server's thread.

    :param most: how many may listen at once
    """

    def __init__(self, published: Published, most: int) -> None:
        self._published = published
        self._most = most

    def tell(self, news: Sequence[Item] = ()) -> None:
        """A cycle has ended: tell all clients, and what else has happened."""
        view = self._published.view
        if view is None or not self._published.subscribers:
            return
        events = [*(b"event: %s\ndata: %s\n\n" % (one.name.encode(), encoded(one.content)) for one in news), _cycle_event(view)]
        for subscriber in self._published.subscribers:
            for event in events:
                subscriber.offer(event)

    async def listen(self, call: ApiCall) -> Response:
        """The stream, beginning with the newest cycle."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        if call.request.method == "HEAD":
            return Response(headers=headers, media_type=MEDIA_TYPE)
        if len(self._published.subscribers) >= self._most:
            raise ProblemError(
                503, f"{self._most} clients listen already", "raise `clients` of the plugin http", headers={"retry-after": "10"}
            )
        return StreamingResponse(self._stream(), headers=headers, media_type=MEDIA_TYPE)

    async def _stream(self) -> AsyncIterator[bytes]:
        subscriber = Subscriber()
        self._published.subscribers.add(subscriber)
        try:
            if self._published.view is not None:
                subscriber.offer(_cycle_event(self._published.view))
            yield b"retry: 2000\n\n"
            while not subscriber.behind:
                yield await subscriber.next(BEAT_SECONDS) or b": still here\n\n"
        finally:
            self._published.subscribers.discard(subscriber)


def _cycle_event(view: ReportView) -> bytes:
    def made() -> bytes:
        return b"event: cycle\nid: %d\ndata: " % view.report.number + encoded(event_of(view)) + b"\n\n"

    return view.answer("event", made)
