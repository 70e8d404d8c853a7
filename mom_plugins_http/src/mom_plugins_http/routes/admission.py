"""Admission of guests, through the API."""

from __future__ import annotations

import math
from typing import Final

from mom_core import PluginContext, parse_size
from mom_plugins_http.routes.answers import as_object
from mom_plugins_http.routes.route import ApiCall, Parameter, Route
from mom_plugins_http.server.problems import ProblemError
from mom_plugins_http.server.server import Worker
from mom_toolkit import Admission, Admissions

MEMORY: Final = Parameter("memory", "What each guest may have at most, such as 8GiB.")
CLASS: Final = Parameter("class", "Their service class; without it, the class of guests of which nothing else tells one.")
COUNT: Final = Parameter("count", "How many guests.", "integer", 1, 10_000, 1)


class AdmissionRoutes:
    """Everything about admission, in the thread in which reservations are looked at: both look at all guests."""

    def __init__(self, context: PluginContext, worker: Worker) -> None:
        self._context = context
        self._worker = worker

    def routes(self) -> list[Route]:
        """Its operation."""
        return [Route("GET", "/v1/admission", self.admission, Admission, parameters=(MEMORY, CLASS, COUNT))]

    async def admission(self, call: ApiCall) -> object:
        """Say whether more guests fit without breaking a promise, and what would have to give."""
        offered = self._context.service(Admissions)
        if offered is None:
            raise ProblemError(409, "no enabled plugin knows promises", "enable the plugin sla in the configuration")
        memory, sla_class = math.ceil(parse_size(str(call.query.get("memory", ""))) / 1024), str(call.query.get("class", ""))
        return as_object(await self._worker.run(lambda: offered.admission(memory, sla_class, call.number(COUNT))))
