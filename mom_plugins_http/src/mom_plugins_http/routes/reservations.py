"""Reservations through the API: made, watched and given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from pydantic import Field
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import MomError, PluginContext, UnitError, printable
from mom_daemon import Seconds, Time, described
from mom_plugins_http.routes.bodies import JSON, BodyModel, Size, Span, read_body, size_schema, span_schema
from mom_plugins_http.routes.guests import IdentityModel
from mom_plugins_http.routes.route import ApiCall, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker
from mom_toolkit import Reservation, ReservationRefused, Reservations, ReservationState, Room

Result = TypeVar("Result")

MOST_REQUESTS: Final = 64
"""Requests that may wait for each other: each looks at all guests, some milliseconds for a thousand."""


WholeKib = Annotated[int, Field(json_schema_extra={"x-unit": "KiB"})]


class WantedModel(BodyModel):
    """Memory that is to be kept."""

    memory: Annotated[Size, size_schema(minimum=1024, maximum=1 << 40)]
    deadline: Annotated[Span, span_schema("From now, with a unit, as `10m`.", minimum=1, maximum=86400)]
    name: Annotated[str, Field(json_schema_extra={"maxLength": 200})] = ""
    """A pattern for the name or id of the guest that it is for, such as `db-*`."""


@described
class RoomModel(TypedDict):
    """What could be reserved, and what it is made of."""

    available_kib: WholeKib
    host_keeps_kib: WholeKib
    reserved_kib: WholeKib
    can_be_freed_kib: WholeKib
    can_be_offloaded_kib: WholeKib
    returning_kib: WholeKib
    guaranteed_kib: WholeKib
    most_kib: WholeKib
    """The largest reservation that can be had."""
    free_kib: WholeKib
    """What of that is there already."""
    why: str
    """Why guests give nothing; empty if they do."""


@described
class ReservationModel(TypedDict):
    """Memory that is kept for a launch."""

    id: str
    state: ReservationState
    memory_kib: WholeKib
    name: str
    who: str
    created_at: Time
    expires_in_seconds: Seconds
    kept_kib: WholeKib
    """What is kept still: less than `memory_kib` when a guest has touched a part."""
    there_kib: WholeKib
    """What of that is free now."""
    expected_kib: WholeKib
    """What is still to come from guests."""
    expected_in_seconds: Annotated[float | None, Field(json_schema_extra={"x-unit": "s"})]
    """Until all is there; null: unknown."""
    guest: IdentityModel | None
    note: str


@described
class ReservationsModel(TypedDict):
    """All reservations."""

    room: RoomModel | None
    """What could be reserved; null: unknown."""
    items: list[ReservationModel]
    ended: list[ReservationModel]
    """The last ones, newest first."""


class ReservationRoutes:
    """Everything about reservations, in a thread of its own: no request for room waits for a policy to be compiled."""

    def __init__(self, context: PluginContext, worker: Worker) -> None:
        self._context = context
        self._worker = worker

    def routes(self) -> list[Route]:
        """Its operations."""
        path, one, change = "/v1/reservations", "/v1/reservations/{id}", Right.CHANGE
        return [
            Route("GET", path, self.reservations, ReservationsModel),
            Route("POST", path, self.reserve, ReservationModel, change, body={JSON: WantedModel}, status=201),
            Route("GET", one, self.reservation, ReservationModel),
            Route("DELETE", one, self.release_reservation, ReservationModel, change),
        ]

    def _offered(self) -> Reservations:
        found = self._context.service(Reservations)
        if found is None:
            raise ProblemError(409, "no enabled plugin makes room for launches", "enable the plugin balloon in the configuration")
        return found

    async def _run(self, job: Callable[[], Result], asked: int = 0) -> Result:
        try:
            return await self._worker.run(job)
        except ReservationRefused as error:
            figures = {"requested_kib": asked, **room_of(error.room)}
            raise ProblemError(409, error.message, error.hint, more=figures) from None
        except UnitError:
            raise
        except MomError as error:
            raise ProblemError(503, error.message, error.hint, headers={"retry-after": "1"}) from None

    async def reservations(self, call: ApiCall) -> ReservationsModel:
        """What is reserved for launches, and what could be."""
        kept = self._context.service(Reservations)
        if kept is None:  # there are none, which is no mistake of the client's
            return {"room": None, "items": [], "ended": []}

        def room() -> Room | None:
            try:
                return kept.room()
            except MomError:  # nothing is known of the host now: what is reserved is all the same
                return None

        known = await self._run(room)
        found = await self._run(kept.reservations)
        return {
            "room": None if known is None else room_of(known),
            "items": [reservation_of(one) for one in found if one.state.lasts],
            "ended": [reservation_of(one) for one in reversed(found) if not one.state.lasts],
        }

    async def reservation(self, call: ApiCall) -> ReservationModel:
        """One reservation, also one that has ended lately."""
        return reservation_of(await self._found(call))

    async def _found(self, call: ApiCall) -> Reservation:
        identity = call.path["id"]
        found = await self._run(self._offered().reservations)
        for one in found:
            if one.id == identity:
                return one
        known = ", ".join(one.id for one in found if one.state.lasts)
        raise ProblemError(404, f"there is no reservation {printable(identity)}", f"there are: {known or 'none'}")

    async def reserve(self, call: ApiCall) -> ReservationModel:
        """Have memory made and kept for a launch; 409 at once with all figures when it cannot be had."""
        given = await read_body(call, WantedModel)
        kept, who = self._offered(), call.peer.name
        made = await self._run(lambda: kept.reserve(given.memory, given.deadline, name=given.name, who=who), given.memory)
        return reservation_of(made)

    async def release_reservation(self, call: ApiCall) -> ReservationModel:
        """Give a reservation up."""
        found = await self._found(call)
        if not found.state.lasts:
            raise ProblemError(409, f"reservation {found.id} has ended: it is {found.state}", found.note)
        kept, who = self._offered(), call.peer.name
        return reservation_of(await self._run(lambda: kept.release(found.id, who=who)))


def reservation_of(one: Reservation) -> ReservationModel:
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


def room_of(room: Room) -> RoomModel:
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
