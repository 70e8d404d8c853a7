"""Reservations through the API: made, watched and given up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from starlette.responses import Response

from mom_core import MomError, PluginContext, UnitError, Value, parse_size, printable
from mom_plugins_http.bodies import object_body, seconds_of
from mom_plugins_http.json_text import encoded
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.routes import ApiCall
from mom_plugins_http.server import Worker
from mom_toolkit import Reservation, ReservationRefused, Reservations, Room

Result = TypeVar("Result")

MOST_JOBS: Final = 64
"""Requests that may wait for each other: each looks at all guests, some milliseconds for a thousand."""


class ReservationRoutes:
    """Everything about reservations, in a thread of its own: no request for room waits for a policy to be compiled."""

    def __init__(self, context: PluginContext, worker: Worker) -> None:
        self._context = context
        self._worker = worker

    def _reservations(self) -> Reservations:
        found = self._context.service(Reservations)
        if found is None:
            raise ProblemError(409, "no enabled plugin makes room for launches", "enable the plugin balloon in the configuration")
        return found

    async def _run(self, job: Callable[[], Result], asked: int = 0) -> Result:
        if self._worker.full:
            raise ProblemError(503, "too many ask for reservations", "ask again in a moment", headers={"retry-after": "1"})
        try:
            return await self._worker.run(job)
        except ReservationRefused as error:
            figures = {"requested_kib": asked, **room_of(error.room)}
            raise ProblemError(409, error.message, error.hint, more=figures) from None
        except UnitError as error:
            raise ProblemError(400, error.message, error.hint) from None
        except MomError as error:
            raise ProblemError(503, error.message, error.hint, headers={"retry-after": "1"}) from None

    async def all(self, call: ApiCall) -> Response:
        """What is reserved, what could be, and what has ended lately."""
        kept = self._context.service(Reservations)
        if kept is None:  # there are none, which is no mistake of the client's
            return _json({"room": None, "items": [], "ended": []})

        def room() -> Room | None:
            try:
                return kept.room()
            except MomError:  # nothing is known of the host now: what is reserved is all the same
                return None

        known = await self._run(room)
        found = await self._run(kept.reservations)
        items: list[Value] = [reservation_of(one) for one in found if one.state.lasts]
        ended: list[Value] = [reservation_of(one) for one in reversed(found) if not one.state.lasts]
        return _json({"room": None if known is None else room_of(known), "items": items, "ended": ended})

    async def one(self, call: ApiCall) -> Response:
        """One reservation, also one that has ended lately."""
        return _json(reservation_of(await self._found(call)))

    async def _found(self, call: ApiCall) -> Reservation:
        identity = call.path["id"]
        found = await self._run(self._reservations().reservations)
        for one in found:
            if one.id == identity:
                return one
        known = ", ".join(one.id for one in found if one.state.lasts)
        raise ProblemError(404, f"there is no reservation {printable(identity)}", f"there are: {known or 'none'}")

    async def make(self, call: ApiCall) -> Response:
        """Reserve, or say at once why not."""
        given = await object_body(call, {"memory", "deadline", "name"})
        memory, seconds, name = (
            _memory(given.get("memory")),
            seconds_of(given.get("deadline"), "deadline", "for how long it is to be reserved"),
            given.get("name", ""),
        )
        if not isinstance(name, str):
            raise ProblemError(400, "`name` must be a pattern for the name or id of the guest that it is for", 'such as "db-*"')
        kept, who = self._reservations(), call.peer.name
        made = await self._run(lambda: kept.reserve(memory, seconds, name=name, who=who), memory)
        return _json(reservation_of(made), 201, {"location": f"/v1/reservations/{made.id}"})

    async def release(self, call: ApiCall) -> Response:
        """Give one up."""
        found = await self._found(call)
        if not found.state.lasts:
            raise ProblemError(409, f"reservation {found.id} has ended: it is {found.state}", found.note)
        kept, who = self._reservations(), call.peer.name
        return _json(reservation_of(await self._run(lambda: kept.release(found.id, who=who))))


def reservation_of(one: Reservation) -> dict[str, Value]:
    """As JSON."""
    return {
        "id": one.id,
        "state": one.state,
        "memory_kib": one.memory_kib,
        "name": one.name,
        "who": one.who,
        "created_at": one.created,
        "expires_in_seconds": one.expires_in,
        "kept_kib": one.kept_kib,
        "there_kib": one.there_kib,
        "expected_kib": max(0, one.kept_kib - one.there_kib),
        "expected_in_seconds": one.expected_in,
        "guest": None if one.guest is None else {"id": one.guest.id, "name": one.guest.name},
        "note": one.note,
    }


def room_of(room: Room) -> dict[str, Value]:
    """As JSON."""
    return {
        "available_kib": room.available_kib,
        "host_keeps_kib": room.host_keeps_kib,
        "reserved_kib": room.reserved_kib,
        "can_be_freed_kib": room.can_free_kib,
        "can_be_offloaded_kib": room.can_offload_kib,
        "returning_kib": room.returning_kib,
        "guaranteed_kib": room.guaranteed_kib,
        "most_kib": room.most_kib,
        "free_kib": room.free_kib,
        "why": room.why,
    }


def _memory(given: object) -> int:
    """KiB."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    try:
        if isinstance(given, str):
            return math.ceil(parse_size(given) / 1024)
    except UnitError as error:
        raise ProblemError(400, f"`memory`: {error.message}", error.hint) from None
    raise ProblemError(400, "`memory` must say how much is to be reserved", 'as "8GiB", or in KiB as a number')


def _json(content: Mapping[str, Value], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encoded(content), status, {"cache-control": "no-store", **(headers or {})}, "application/json")
