"""Whether guests fit, through the API."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import PluginContext, parse_size
from mom_plugins_http.routes.guests import IdentityModel
from mom_plugins_http.routes.route import ApiCall, Parameter, Route
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker
from mom_toolkit import Admission, Admissions

MEMORY: Final = Parameter("memory", "What each guest may have at most, such as 8GiB.")
CLASS: Final = Parameter("class", "Their service class; without it, the class of guests of which nothing else tells one.")
COUNT: Final = Parameter("count", "How many guests.", "integer", 1, 10_000, 1)


WholeKib = Annotated[int, Field(json_schema_extra={"x-unit": "KiB"})]


class DonorModel(TypedDict):
    """A guest that would have to give."""

    guest: IdentityModel
    kib: WholeKib
    what: Literal["memory", "promise"]


AdmissionModel = TypedDict(
    "AdmissionModel",
    {
        "admitted": bool,
        "count": int,
        "fits": Annotated[int, Field(description="How many such guests there could be, counted up to 10,000.")],
        "memory_kib": WholeKib,
        "class": Annotated[str, Field(description="Empty: none.")],
        "guarantee_kib": Annotated[WholeKib, Field(description="What each would be promised.")],
        "reasons": Annotated[list[str], Field(description="Sentences; those against it first.")],
        "donors": Annotated[list[DonorModel], Field(description="Guests that would have to give.")],
    },
)


class AdmissionRoutes:
    """Everything about admission, in the thread in which reservations are looked at: both look at all guests."""

    def __init__(self, context: PluginContext, worker: Worker) -> None:
        self._context = context
        self._worker = worker

    def routes(self) -> list[Route]:
        """Its operation."""
        return [Route("GET", "/v1/admission", self.admission, AdmissionModel, parameters=(MEMORY, CLASS, COUNT))]

    async def admission(self, call: ApiCall) -> AdmissionModel:
        """Whether more guests fit without breaking a promise, and what would have to give."""
        offered = self._context.service(Admissions)
        if offered is None:
            raise ProblemError(409, "no enabled plugin knows promises", "enable the plugin sla in the configuration")
        memory, sla_class = math.ceil(parse_size(str(call.query.get("memory", ""))) / 1024), str(call.query.get("class", ""))
        return _model(await self._worker.run(lambda: offered.admission(memory, sla_class, call.number(COUNT))))


def _model(found: Admission) -> AdmissionModel:
    return {
        "admitted": found.admitted,
        "count": found.count,
        "fits": found.fits,
        "memory_kib": found.memory_kib,
        "class": found.sla_class,
        "guarantee_kib": found.guarantee_kib,
        "reasons": list(found.reasons),
        "donors": [
            {"guest": {"id": one.guest.id, "name": one.guest.name}, "kib": one.kib, "what": "promise" if one.promise else "memory"}
            for one in found.donors
        ],
    }
