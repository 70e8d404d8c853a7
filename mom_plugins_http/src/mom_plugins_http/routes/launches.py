"""Launches of guests through the API: whether they fit, and memory that is reserved for them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Final, TypeVar

from pydantic import Field
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import MomError, PluginContext, StrictModel, UnitError, parse_size, printable
from mom_daemon import described, told
from mom_kvm import (
    Admission,
    Admissions,
    Launch,
    LaunchedGuest,
    Launches,
    LaunchReader,
    LaunchState,
    Reservation,
    ReservationRefused,
    Reservations,
    Room,
)
from mom_plugins_http.routes.answers import answered, as_object, asked, offered, sound
from mom_plugins_http.routes.bodies import JSON, MOST_KIB, Size, Span, read_body, size_schema, span_schema, text_of
from mom_plugins_http.routes.route import ApiCall, Parameter, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker

Result = TypeVar("Result")

MOST_REQUESTS: Final = 64
"""Requests that may wait for each other: each looks at all guests, some milliseconds for a thousand."""


MEMORY: Final = Parameter("memory", "What each guest may have at most, such as 8GiB.")
CLASS: Final = Parameter("class", "Their service class; without it, the class of guests of which nothing else tells one.")
COUNT: Final = Parameter("count", "How many guests.", "integer", 1, 10_000, 1)
PATIENCE: Final = Parameter("patience", "Seconds to wait for the decision at most.", "integer", 0, 600, 300)
"""A hook is a little more patient than the longest wait that can be configured, 300 s; mom decides by that in any case."""
IDENTITY: Final = Parameter("id", "What the platform calls the guest, where its description does not say: Proxmox VE's number.")

_LOOK_SECONDS: Final = 0.1
"""How often it is looked whether the memory for a launch is there."""

LEAST_KIB: Final = 1024
"""Of a guest, and of a reservation."""

_PARTS: Final = 1024
"""The largest reservation that promises allow is found to such a part of what memory allows."""

_DESCRIPTIONS: Final = "application/xml, text/plain or application/json"


class StartingGuestModel(StrictModel):
    """A guest that is about to be started."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    memory: Annotated[Size, size_schema(minimum=LEAST_KIB, maximum=MOST_KIB)]
    """What it will have when it starts."""
    id: Annotated[str, Field(max_length=200)] = ""
    """The id that it will have, such as libvirt's UUID."""


class WantedModel(StrictModel):
    """Memory that is to be kept."""

    memory: Annotated[Size, size_schema(minimum=LEAST_KIB, maximum=MOST_KIB)]
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
    rising_kib: int
    """What guests are expected to take before long, by their days."""
    rising_until: float
    """By when they will have, in seconds since the epoch; 0: unknown."""
    rise: str
    """The same for people; empty: nothing is expected."""
    guaranteed_kib: int
    most_kib: int
    """The largest reservation that can be had, as far as memory and promises to guests allow."""
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
    """Everything about launches, in threads of its own: no request for room waits for a policy to be compiled.

    :param worker: makes room
    :param reading: does what those may ask for who may only read, so that no launch waits for it
    """

    def __init__(self, context: PluginContext, worker: Worker, reading: Worker) -> None:
        self._context = context
        self._worker = worker
        self._reading = reading

    def routes(self) -> list[Route]:
        """Its operations."""
        path, one, change = "/v1/reservations", "/v1/reservations/{id}", Right.CHANGE
        described_as = {"application/xml": str, "text/plain": str, JSON: StartingGuestModel}
        return [
            Route("GET", "/v1/admission", self.admission, Admission, parameters=(MEMORY, CLASS, COUNT)),
            Route("POST", "/v1/launches", self.launch, Launch, change, (PATIENCE, IDENTITY), body=described_as),
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
        question = partial(kept.admission, memory, sla_class, call.number(COUNT))
        asked = partial(answered, self._context, Admissions, lambda: sound(Admission, question()))
        answer = await self._reading.run(asked, call.peer.user)
        return as_object(answer)

    async def launch(self, call: ApiCall) -> object:
        """Have memory made for a guest that is about to be started; answers when it may be, 409 with `state` `refused` when it must not."""
        launches = offered(self._context, Launches, "makes room for launches", "balloon")
        readers = self._context.services(LaunchReader)
        guest = await self._launched(call, readers)
        for reader in readers:
            reader.launches(guest)
        try:
            launch = await self._run(partial(launches.begin, guest, patience=call.number(PATIENCE), who=call.peer.name), kind=Launches)
            while launch.state is LaunchState.WAITING:
                await asyncio.sleep(_LOOK_SECONDS)
                if not self._worker.full:  # if it is, the launch waits on: its hook would take a refusal for leave to start
                    launches = self._context.service(Launches) or launches  # of a reload, which has taken over what is kept
                    launch = await self._run(partial(launches.look, launch), kind=Launches)
        finally:
            for reader in readers:
                reader.launched(guest)
        if launch.state is LaunchState.REFUSED:
            raise ProblemError(409, launch.note, launch.hint, more={"state": str(launch.state)})
        return as_object(launch)

    async def _launched(self, call: ApiCall, readers: Sequence[LaunchReader]) -> LaunchedGuest:
        """The guest that the body describes: by libvirt's domain XML, a definition of Proxmox VE, or in JSON. Raises `ProblemError`."""
        if call.media_type not in {"application/xml", "text/plain"}:
            given = await read_body(call, StartingGuestModel, _DESCRIPTIONS)
            return LaunchedGuest(given.name, given.memory, given.id)
        text, identity = text_of(await call.body()), str(call.query.get(IDENTITY.name, ""))
        guest = await self._worker.run(lambda: next(filter(None, (reader.read(text, identity) for reader in readers)), None))
        if guest is None:
            hint = "it is read by the plugin of the hypervisor that is to start it: libvirt, or qemu for Proxmox VE"
            raise ProblemError(422, "no enabled plugin understands this description of a guest", hint)
        return guest

    async def _run(
        self,
        job: Callable[[], Result],
        asked: int = 0,
        worker: Worker | None = None,
        kind: Callable[..., object] = Reservations,
        user: str = "",
    ) -> Result:
        try:
            return await (worker or self._worker).run(partial(answered, self._context, kind, job), user)
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
        read, user = self._reading, call.peer.user
        room = await self._run(self._room, worker=read, user=user)
        found = await self._run(lambda: [sound(Reservation, one) for one in kept.reservations()], worker=read, user=user)
        return {
            "room": room,
            "items": [as_object(one) for one in found if one.state.lasts],
            "ended": [as_object(one) for one in reversed(found) if not one.state.lasts],
        }

    def _room(self) -> RoomModel | None:
        """What can be reserved, by all that `reserve` goes by; None: nothing is known."""
        known = asked(self._context, Reservations, lambda each: sound(Room, each.room()))
        if known is None:
            return None
        most = refused = known.most_kib
        if self._breaks_a_promise(most):
            most, step = 0, max(LEAST_KIB, known.most_kib // _PARTS)
            while refused - most > step:
                middle = (most + refused) // 2
                most, refused = (most, middle) if self._breaks_a_promise(middle) else (middle, refused)
        return told(RoomModel, known, most_kib=most, free_kib=min(most, known.free_kib))

    def _breaks_a_promise(self, memory_kib: int) -> bool:
        """True if it is known that a guest of so much memory could not be started without that."""
        if memory_kib < LEAST_KIB:
            return False
        answer = asked(self._context, Admissions, lambda each: sound(Admission, each.admission(memory_kib)))
        return answer is not None and not answer.admitted

    async def reservation(self, call: ApiCall) -> object:
        """One reservation, also one that has ended lately."""
        return as_object(await self._found(call, self._reading))

    async def _found(self, call: ApiCall, worker: Worker) -> Reservation:
        identity, kept = call.path["id"], self._reservations()
        found = await self._run(lambda: [sound(Reservation, one) for one in kept.reservations()], worker=worker, user=call.peer.user)
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
        found = await self._found(call, self._worker)
        if not found.state.lasts:
            raise ProblemError(409, f"reservation {found.id} has ended: it is {found.state}", found.note)
        kept, who = self._reservations(), call.peer.name
        return as_object(await self._run(lambda: kept.release(found.id, who=who)))
