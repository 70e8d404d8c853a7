"""`/v1/events`: server-sent events of cycles, and of changes of reservations and policies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from starlette.responses import Response, StreamingResponse
from typing_extensions import TypedDict

from mom_core import MomError, PluginContext, format_kib
from mom_daemon import json_text
from mom_daemon.report_models import StatusModel
from mom_kvm import PolicyState, PolicyTexts, Reservation, Reservations
from mom_plugins_http.routes.published import PastNote, Published, as_object
from mom_plugins_http.routes.route import ApiCall, Route

MEDIA_TYPE: Final = "text/event-stream"

BEAT_SECONDS: Final = 15.0
"""Seconds between comments that keep proxies connected and show mom lost clients."""

_WAITING_EVENTS: Final = 16
"""Maximum number of events that wait for a client. mom disconnects slower clients."""

KEPT_NOTES: Final = 200


class NewReservationsModel(TypedDict):
    """Reservations whose state has changed."""

    items: list[Reservation]


class NewPoliciesModel(TypedDict):
    """Changes of the policies, newest last."""

    version: str
    items: list[PolicyState.Change]


class Item(NamedTuple):
    """Name and content of one event."""

    name: str
    content: Mapping[str, Any]


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


class News:
    """Changes of reservations and policies since the last `gather`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._states: dict[str, Reservation.State] | None = None
        self._version: str | None = None
        self.notes: Sequence[PastNote] = ()
        """Notes on reservations and policy changes, newest first."""
        self.policies: PolicyState | None = None
        self._failure = ""

    def gather(self) -> Sequence[Item]:
        """Return the changes since the last call, as events."""
        items: list[Item] = []
        failure = ""
        for changes in (self._reservations, self._policies):
            try:
                items += changes()
            except MomError:  # the plugin is not ready: try next time
                continue
            except Exception as error:  # another plugin's fault; clients still get the cycle
                failure = repr(error)
                if failure != self._failure:
                    self._context.log.error("another plugin fails to report its changes", exc_info=error)
        self._failure = failure
        return items

    def _note(self, notes: Sequence[PastNote]) -> None:
        self.notes = sorted([*notes, *self.notes], key=lambda note: -note.time)[:KEPT_NOTES]

    def _reservations(self) -> Sequence[Item]:
        if (service := self._context.service(Reservations)) is None:
            return ()
        reservations = service.reservations()
        before, self._states = self._states, {each.id: each.state for each in reservations}
        changed = [each for each in reservations if before is None or before.get(each.id) is not each.state]
        self._note([_reservation_note(each, each.created_at if before is None else time.time()) for each in changed])
        return [Item("reservations", {"items": as_object(changed)})] if changed and before is not None else ()

    def _policies(self) -> Sequence[Item]:
        self.policies, service = None, self._context.service(PolicyTexts)
        if service is None:
            return ()
        self.policies = state = service.state()
        version, before = state.version, self._version
        if version == before:
            return ()
        history = service.history()  # only after a change: this call may wait for a compilation
        self._version, versions = version, [change.version for change in history]
        since = versions.index(before) + 1 if before in versions else 0
        until = versions.index(version) + 1 if version in versions else None  # later changes are for the next call
        changes = history[since:until]
        self._note([PastNote(change.time, "policies", f"{change.what}, by {change.who}") for change in changes])
        return [Item("policies", {"version": version, "items": as_object(changes)})] if before is not None else ()


def _reservation_note(reservation: Reservation, time: float) -> PastNote:
    guest = f", by {reservation.guest.name}" if reservation.guest else ""
    note = f"; {reservation.note}" if reservation.note else ""
    text = f"{format_kib(reservation.memory_kib)} for {reservation.name or reservation.id}: {reservation.state}{guest}{note}"
    return PastNote(time, "reserved", text)
