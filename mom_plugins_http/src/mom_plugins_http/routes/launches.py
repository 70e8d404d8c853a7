"""Operations on launches of guests: admission, and memory reserved for them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Annotated, Final, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from mom_core import Duration, MomError, PluginContext, Size, StrictModel, UnitError, printable
from mom_daemon.report_models import described, told
from mom_kvm import Admission, Admissions, LaunchedGuest, Launches, LaunchReader, Reservation, Reservations
from mom_plugins_http.routes.published import as_object, offered
from mom_plugins_http.routes.route import JSON, ApiCall, Query, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker

Result = TypeVar("Result")

_LOOK_SECONDS: Final = 0.1

_DESCRIPTIONS: Final = "application/xml, text/plain or application/json"


class AdmissionQuery(Query):
    """Query about room for more guests."""

    memory: Size
    """Maximum memory of each guest, such as 8GiB."""
    sla_class: Annotated[str, Field(alias="class")] = ""
    """Service class; default: the class of guests that name no class."""
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many guests."""


class LaunchQuery(Query):
    """Query for a launch."""

    patience: Annotated[int, Field(ge=0, le=600)] = 300
    """Longest wait for the decision, in seconds. More than 300 is for hooks, which wait a little longer than configured."""
    id: str = ""
    """Id that the platform gives the guest, such as Proxmox VE's VMID, if the description contains none."""


class StartingGuestModel(StrictModel):
    """Guest that is about to start."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    memory: Size
    """Memory at the guest's start."""
    id: Annotated[str, Field(max_length=200)] = ""
    """Id, such as libvirt's UUID."""


_DESCRIBED_GUEST: Final = {"application/xml": str, "text/plain": str, JSON: StartingGuestModel}


class ReservationRequestModel(StrictModel):
    """Request for a reservation."""

    memory: Size
    deadline: Duration
    """Duration from now."""
    name: Annotated[str, Field(json_schema_extra={"maxLength": 200})] = ""
    """Pattern for the name or id of guests that may use the reservation, such as `db-*`."""


@described
class RoomModel(TypedDict):
    """Memory available for reservations, and its parts."""

    available_kib: int
    host_keeps_kib: int
    reserved_kib: int
    can_free_kib: int
    can_offload_kib: int
    returning_kib: int
    rising_kib: int
    """Memory that guests will soon need in addition, according to their daily pattern."""
    rise: str
    """The additional need in words; empty if there is none."""
    guaranteed_kib: int
    most_kib: int
    """Largest reservation that memory allows. Promises to guests may allow less: see `GET /v1/admission`."""
    free_kib: int
    """Part of `most_kib` that is free now."""
    why: str
    """Why guests release no memory; empty if they do."""


@described
class ReservationsModel(TypedDict):
    """Reservations, and memory for more reservations."""

    room: RoomModel | None
    """Memory available for reservations; null if unknown."""
    items: list[Reservation]
    ended: list[Reservation]
    """Recently ended reservations, newest first."""


class LaunchRoutes:
    """Operations on launches."""

    def __init__(self, context: PluginContext, worker: Worker, reading: Worker) -> None:
        self._context = context
        self._worker = worker
        self._reading = reading

    def _reservations(self) -> Reservations:
        return offered(self._context, Reservations, "makes room for launches", "balloon")

    @Route("GET", "/v1/admission", Admission, query=AdmissionQuery)
    async def admission(self, call: ApiCall) -> object:
        """Check whether more guests fit without breaking a promise, and which guests would have to shrink."""
        admissions = offered(self._context, Admissions, "knows promises", "sla")
        query: AdmissionQuery = call.query
        question = partial(admissions.admission, _kib(query.memory), query.sla_class, query.count)
        return as_object(await self._reading.run(question, call.peer.user))

    @Route("POST", "/v1/launches", LaunchedGuest.Launch, Right.CHANGE, LaunchQuery, body=_DESCRIBED_GUEST)
    async def launch(self, call: ApiCall) -> object:
        """Make memory available for a guest, and answer when the guest may start. Status 409 with `state` `refused`: it must not start."""
        launches = offered(self._context, Launches, "makes room for launches", "balloon")
        readers = self._context.services(LaunchReader)
        guest = await self._launched(call, readers)
        for reader in readers:
            reader.launches(guest)
        begin = partial(launches.begin, guest, patience=call.query.patience, who=call.peer.name)
        try:
            launch = await self._refusing(self._worker.run(begin))
            while launch.state is LaunchedGuest.Launch.State.WAITING:
                await asyncio.sleep(_LOOK_SECONDS)
                if self._worker.room.left > 0:  # if full, wait: after a refusal, the hook would start the guest
                    launches = self._context.service(Launches) or launches  # a reload replaces the service
                    launch = await self._refusing(self._worker.run(partial(launches.look, launch)))
        finally:
            for reader in readers:
                reader.launched(guest)
        if launch.state is LaunchedGuest.Launch.State.REFUSED:
            raise ProblemError(409, launch.note, launch.hint, more={"state": str(launch.state)})
        return as_object(launch)

    async def _launched(self, call: ApiCall, readers: Sequence[LaunchReader]) -> LaunchedGuest:
        if call.media_type not in {"application/xml", "text/plain"}:
            body = await call.content(StartingGuestModel, _DESCRIPTIONS)
            return LaunchedGuest(body.name, _kib(body.memory), body.id)
        text, identity = (await call.body()).decode(errors="replace"), call.query.id
        guest = await self._worker.run(lambda: next(filter(None, (reader.read(text, identity) for reader in readers)), None))
        if guest is None:
            hint = "enable the plugin of the hypervisor: libvirt, or qemu for Proxmox VE"
            raise ProblemError(422, "no enabled plugin can read this description of a guest", hint)
        return guest

    async def _refusing(self, running: Awaitable[Result], requested_kib: int = 0) -> Result:
        try:
            return await running
        except Reservation.Refused as error:
            figures = {"requested_kib": requested_kib, **told(RoomModel, error.room)}
            raise ProblemError(409, error.message, error.hint, more=figures) from None
        except UnitError:
            raise
        except MomError as error:
            raise ProblemError(503, error.message, error.hint, headers={"retry-after": "1"}) from None

    @Route("GET", "/v1/reservations", ReservationsModel)
    async def reservations(self, call: ApiCall) -> ReservationsModel:
        """List the memory reserved for launches, and the memory available for more."""
        service = self._context.service(Reservations)
        if service is None:
            return {"room": None, "items": [], "ended": []}
        room = await self._refusing(self._reading.run(partial(_room, service), call.peer.user))
        listed = await self._refusing(self._reading.run(service.reservations, call.peer.user))
        return {
            "room": room,
            "items": [as_object(each) for each in listed if each.state.lasts],
            "ended": [as_object(each) for each in reversed(listed) if not each.state.lasts],
        }

    @Route("POST", "/v1/reservations", Reservation, Right.CHANGE, body={JSON: ReservationRequestModel}, status=201)
    async def reserve(self, call: ApiCall) -> object:
        """Reserve memory for a launch. If there is too little, answer at once with status 409 and all figures."""
        body = await call.content(ReservationRequestModel)
        memory_kib = _kib(body.memory)
        reserve = partial(self._reservations().reserve, memory_kib, body.deadline, name=body.name, who=call.peer.name)
        return as_object(await self._refusing(self._worker.run(reserve), memory_kib))

    @Route("GET", "/v1/reservations/{id}", Reservation)
    async def reservation(self, call: ApiCall) -> object:
        """Return one reservation, even a recently ended one."""
        listed = await self._refusing(self._reading.run(self._reservations().reservations, call.peer.user))
        return as_object(self._of(call, listed))

    def _of(self, call: ApiCall, listed: Sequence[Reservation]) -> Reservation:
        identity = call.path["id"]
        for reservation in listed:
            if reservation.id == identity:
                return reservation
        ids = ", ".join(each.id for each in listed if each.state.lasts)
        raise ProblemError(404, f"there is no reservation {printable(identity)}", f"known reservations: {ids or 'none'}")

    @Route("DELETE", "/v1/reservations/{id}", Reservation, Right.CHANGE)
    async def release_reservation(self, call: ApiCall) -> object:
        """Release a reservation."""
        service = self._reservations()
        reservation = self._of(call, await self._refusing(self._worker.run(service.reservations)))
        if not reservation.state.lasts:
            raise ProblemError(409, f"reservation {reservation.id} has ended: it is {reservation.state}", reservation.note)
        return as_object(await self._refusing(self._worker.run(partial(service.release, reservation.id, who=call.peer.name))))


def _kib(size: int) -> int:
    return math.ceil(size / 1024)


def _room(service: Reservations) -> RoomModel | None:
    try:
        return told(RoomModel, service.room())
    except MomError:
        return None
