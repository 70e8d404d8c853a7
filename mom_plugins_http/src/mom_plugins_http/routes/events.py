"""`/v1/events`: server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from mom_daemon import json_text
from mom_daemon.report_models import ReportDocument
from mom_plugins_http.report_changes import ReportChanges, changes_between
from mom_plugins_http.routes.answers import queried_fields
from mom_plugins_http.routes.news import Item, NewPoliciesModel, NewReservationsModel
from mom_plugins_http.routes.published import Published, ReportView, Subscriber
from mom_plugins_http.routes.route import ApiCall, FieldsQuery, Route
from mom_plugins_http.server.access import Shares
from mom_plugins_http.server.held_bytes import PIECE
from mom_plugins_http.server.problems import ProblemError

MEDIA_TYPE: Final = "text/event-stream"

BEAT_SECONDS: Final = 15.0
"""Seconds between comments that keep proxies connected and show mom lost clients."""

Fields = tuple[str, ...] | None
"""Guest fields that a client wants; None for all."""


MOST_LISTS: Final = 8
"""Maximum number of different field lists, because mom keeps a report for each."""


@dataclass(slots=True)
class _SentReport:
    report: ReportDocument
    event: bytes = b""

    @property
    def number(self) -> int:
        return self.report["cycle"]["number"]

    def whole(self) -> bytes:
        self.event = self.event or _event("report", self.number, self.report)
        return self.event


_EVENTS: Final = {"report": ReportDocument, "cycle": ReportChanges, "reservations": NewReservationsModel, "policies": NewPoliciesModel}


class Events:
    """Source of the event streams. All methods run in the server's thread."""

    def __init__(self, published: Published, most: int) -> None:
        self._published = published
        self._most = most
        self._sent: dict[Fields, _SentReport] = {}

    def tell(self, news: Sequence[Item]) -> None:
        """Send the last cycle's changes and other news to all clients."""
        view, subscribers = self._published.newest, self._published.subscribers
        before, self._sent = self._sent, {}  # forget lists of fields without a client
        if view is None or not subscribers:
            return
        first = [_event(item.name, None, item.content) for item in news]
        changed = {fields: self._changed(view, fields, before.get(fields)) for fields in self._lists()}
        for subscriber in subscribers:
            for event in filter(None, (*first, changed[subscriber.fields])):
                subscriber.offer(event)

    def _lists(self) -> set[Fields]:
        return {subscriber.fields for subscriber in self._published.subscribers}

    def _changed(self, view: ReportView, fields: Fields, before: _SentReport | None) -> bytes | None:
        if before is not None and before.number == view.report.number:  # these clients connected after this cycle
            self._sent[fields] = before
            return None
        now = self._sent[fields] = _SentReport(view.document(self._published.context.interval, fields))
        changes = None if before is None else changes_between(before.report, now.report)
        return now.whole() if changes is None else _event("cycle", now.number, changes)

    def _make_room(self, newcomer: Subscriber) -> None:
        # If all places are taken, end streams of the user who has most.
        later = {"retry-after": "10"}
        listening = self._published.subscribers
        if len(listening) >= self._most and not self._end_some([[each] for each in listening], newcomer):
            raise ProblemError(503, f"{self._most} clients are already listening", "raise `clients` of the http plugin", headers=later)
        if len((lists := self._lists()) | {newcomer.fields}) > MOST_LISTS:
            by_list = [[each for each in listening if each.fields == fields] for fields in lists]
            if not self._end_some(by_list, newcomer):
                hint = "use the same list of fields as another client, all fields, or none"
                raise ProblemError(503, f"clients already use {MOST_LISTS} different lists of fields", hint, headers=later)

    def _end_some(self, groups: Sequence[Sequence[Subscriber]], newcomer: Subscriber) -> bool:
        # A group's user with the highest right, then the fewest streams, represents it. Return False if the newcomer may replace no group.
        streams = Shares(each.peer for group in groups for each in group)
        owners = [max((each.peer for each in group), key=streams.order) for group in groups]
        shares = Shares(owners)
        owner, group = min(zip(owners, groups, strict=True), key=lambda pair: shares.order(pair[0]))
        if not shares.yields(owner, newcomer.peer):
            return False
        for subscriber in group:
            subscriber.end()
            self._published.subscribers.discard(subscriber)
        return True

    @Route("GET", "/v1/events", str, query=FieldsQuery, media_type=MEDIA_TYPE, events=_EVENTS)
    async def events(self, call: ApiCall) -> Response:
        """Send the newest report as an event `report`, then the changes of each cycle as an event `cycle`."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        fields = queried_fields(call, self._published.context.declarations)
        if call.request.method == "HEAD":
            return Response(headers=headers, media_type=MEDIA_TYPE)
        subscriber = Subscriber(fields, call.peer)
        self._make_room(subscriber)
        view = self._published.newest
        if view is not None:
            if fields not in self._sent:
                self._sent[fields] = _SentReport(view.document(self._published.context.interval, fields))
            subscriber.offer(self._sent[fields].whole())
        self._published.subscribers.add(subscriber)  # before any `await`: simultaneous clients must count each other
        return _Stream(_stream_of(subscriber, call), headers, lambda: self._published.subscribers.discard(subscriber))


class _Stream(StreamingResponse):
    # Calls `ended` when the client is gone, even before the first event.

    def __init__(self, events: AsyncIterator[bytes], headers: Mapping[str, str], ended: Callable[[], object]) -> None:
        super().__init__(events, headers=headers, media_type=MEDIA_TYPE)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


async def _stream_of(subscriber: Subscriber, call: ApiCall) -> AsyncIterator[bytes]:
    yield b"retry: 2000\n\n"
    while not subscriber.ended:
        event = await subscriber.next(BEAT_SECONDS) or b": still here\n\n"
        if not call.still_allowed():
            break
        for start in range(0, len(event), PIECE):  # as fast as the client reads
            yield event[start : start + PIECE]


def _event(name: str, number: int | None, content: object) -> bytes:
    head = f"event: {name}\n" if number is None else f"event: {name}\nid: {number}\n"
    return b"%sdata: %s\n\n" % (head.encode(), json_text(content))
