"""Whether guests fit, through the API."""

from __future__ import annotations

import math
from typing import Final

from starlette.responses import Response

from mom_core import MomError, PluginContext, UnitError, Value, parse_size
from mom_plugins_http.json_text import encoded
from mom_plugins_http.problems import ProblemError
from mom_plugins_http.routes import ApiCall, Parameter
from mom_plugins_http.server import Worker
from mom_toolkit import Admission, Admissions

MEMORY: Final = Parameter("memory", "What each guest may have at most, such as 8GiB.")
CLASS: Final = Parameter("class", "Their service class; without it, the class of guests of which nothing else tells one.")
COUNT: Final = Parameter("count", "How many guests.", "integer", 1, 10_000, 1)


class AdmissionRoutes:
    """Everything about admission, in the thread in which reservations are looked at: both look at all guests."""

    def __init__(self, context: PluginContext, worker: Worker) -> None:
        self._context = context
        self._worker = worker

    async def answer(self, call: ApiCall) -> Response:
        """Whether these guests fit."""
        offered = self._context.service(Admissions)
        if offered is None:
            raise ProblemError(409, "no enabled plugin knows promises", "enable the plugin sla in the configuration")
        if self._worker.full:
            raise ProblemError(503, "too many ask for memory", "ask again in a moment", headers={"retry-after": "1"})
        found = await self._worker.run(lambda: _asked(offered, call))
        return Response(encoded(admission_of(found)), 200, {"cache-control": "no-store"}, "application/json")


def _asked(offered: Admissions, call: ApiCall) -> Admission:
    text = str(call.query.get("memory", ""))
    try:
        memory = math.ceil(parse_size(text) / 1024)
    except UnitError as error:
        raise ProblemError(400, f"`memory`: {error.message}", error.hint) from None
    try:
        return offered.admission(memory, str(call.query.get("class", "")), int(call.query.get("count", 1)))
    except MomError as error:
        raise ProblemError(409, error.message, error.hint) from None


def admission_of(found: Admission) -> dict[str, Value]:
    """As JSON."""
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
