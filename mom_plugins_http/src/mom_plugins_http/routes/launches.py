"""Launches of guests through the API: whether they fit, and memory that is reserved for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Final, TypeVar

from pydantic import Field
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import MomError, PluginContext, StrictModel, UnitError, parse_size, printable
from mom_daemon import described, told
from mom_plugins_http.routes.answers import as_object, asked, offered
from mom_plugins_http.routes.bodies import JSON, Size, Span, read_body, size_schema, span_schema
from mom_plugins_http.routes.route import ApiCall, Parameter, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker
from mom_toolkit import Admission, Admissions, Reservation, ReservationRefused, Reservations

Result = TypeVar("Result")

MOST_REQUESTS: Final = 64
"""Requests that may wait for each other: each looks at all guests, some milliseconds for a thousand."""


MEMORY: Final = Parameter("memory", "What each guest may have at most, such as 8GiB.")
CLASS: Final = Parameter("class", "Their service class; without it, the class of guests of which nothing else tells one.")
COUNT: Final = Parameter("count", "How many guests.", "integer", 1, 10_000, 1)


class WantedModel(StrictModel):
    """Memory that is to be kept."""

    memory: Annotated[Size, size_schema(minimum=1024, maximum=1 << 40)]
    deadline: Annotated[Span, span_schema("From now, with a unit, as `10m`.", minimum=1, maximum=86400)]
    name: Annotated[str, Field(json_schema_extra={"maxLength": 200})] = ""
    """A pattern for the name or id of the guest that it is for, such as `db-*`."""


@described
class RoomModel(TypedDict):
    """Memory that could be reserved, and its parts."""

    available_kib: int
    host_keeps_kib: int
    reserved_kib: int
    can_free_kib: int
    can_offload_kib: int
    returning_kib: int
    guaranteed_kib: int
    most_kib: int
    """The largest reservation that can be had."""
    free_kib: int
    """The part of that which is there already."""
    why: str
    """Why guests give nothing; empty if they do."""


@described
class ReservationsModel(TypedDict):
    """All reservations."""

    room: RoomModel | None
    """Memory that could be reserved; null: unknown."""
    items: list[Reservation]
    ended: list[Reservation]
    """The last ones, newest first."""


class LaunchRoutes:
    """Everything about launches, in a thread of its own: no request for room waits for a policy to be compiled."""

    def __init__(self, context: PluginContext, worker: Worker) -> None:
        self._context = context
        self._worker = worker

    def routes(self) -> list[Route]:
        """Its operations."""
        path, one, change = "/v1/reservations", "/v1/reservations/{id}", Right.CHANGE
        return [
            Route("GET", "/v1/admission", self.admission, Admission, parameters=(MEMORY, CLASS, COUNT)),
            Route("GET", path, self.reservations, ReservationsModel),
            Route("POST", path, self.reserve, Reservation, change, body={JSON: WantedModel}, status=201),
            Route("GET", one, self.reservation, Reservation),
            Route("DELETE", one, self.release_reservation, Reservation, change),
        ]

    def _reservations(self) -> Reservations:
        return offered(self._context, Reservations, "makes room for launches", "balloon")

    async def admission(self, call: ApiCall) -> object:
        """Say whether more guests fit without breaking a promise, and what would have to give."""
        kept = offered(self._context, Admissions, "knows promises", "sla")
        memory, sla_class = math.ceil(parse_size(str(call.query.get("memory", ""))) / 1024), str(call.query.get("class", ""))
        return as_object(await self._worker.run(lambda: kept.admission(memory, sla_class, call.number(COUNT))))

    async def _run(self, job: Callable[[], Result], asked: int = 0) -> Result:
        try:
            return await self._worker.run(job)
        except ReservationRefused as error:
            figures = {"requested_kib": asked, **told(RoomModel, error.room)}
            raise ProblemError(409, error.message, error.hint, more=figures) from None
        except UnitError:
            raise
        except MomError as error:
            raise ProblemError(503, error.message, error.hint, headers={"retry-after": "1"}) from None

    async def reservations(self, call: ApiCall) -> ReservationsModel:
        """Memory that is reserved for launches, and that could be."""
        kept = self._context.service(Reservations)
        if kept is None:  # there are none, which is no mistake of the client's
            return {"room": None, "items": [], "ended": []}
        known = await self._run(lambda: asked(self._context, Reservations, lambda each: each.room()))  # None: nothing is known of the host
        found = await self._run(kept.reservations)
        return {
            "room": None if known is None else told(RoomModel, known),
            "items": [as_object(one) for one in found if one.state.lasts],
            "ended": [as_object(one) for one in reversed(found) if not one.state.lasts],
        }

    async def reservation(self, call: ApiCall) -> object:
        """One reservation, also one that has ended lately."""
        return as_object(await self._found(call))

    async def _found(self, call: ApiCall) -> Reservation:
        identity = call.path["id"]
        found = await self._run(self._reservations().reservations)
        for one in found:
            if one.id == identity:
                return one
        known = ", ".join(one.id for one in found if one.state.lasts)
        raise ProblemError(404, f"there is no reservation {printable(identity)}", f"there are: {known or 'none'}")

    async def reserve(self, call: ApiCall) -> object:
        """Have memory made and kept for a launch; 409 at once with all figures when it cannot be had."""
        given = await read_body(call, WantedModel)
        kept, who = self._reservations(), call.peer.name
        return as_object(await self._run(lambda: kept.reserve(given.memory, given.deadline, name=given.name, who=who), given.memory))

    async def release_reservation(self, call: ApiCall) -> object:
        """Give a reservation up."""
        found = await self._found(call)
        if not found.state.lasts:
            raise ProblemError(409, f"reservation {found.id} has ended: it is {found.state}", found.note)
        kept, who = self._reservations(), call.peer.name
        return as_object(await self._run(lambda: kept.release(found.id, who=who)))
