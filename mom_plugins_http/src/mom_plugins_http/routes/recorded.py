"""Past days, where they are recorded."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from mom_daemon import described
from mom_plugins_http.routes.answers import CycleAnswers, Items, PastModel, found_guest, offered
from mom_plugins_http.routes.published import GUEST_HISTORY, SUMMED
from mom_plugins_http.routes.route import ApiCall, Parameter, Route
from mom_plugins_http.server.server import Worker
from mom_toolkit import PointsAsked, RecordedPoints

HOST_RECORDED: Final = ("mem_available", "mem_really_available", "ksm_saved", "swap_usage", "psi_memory_some_avg10")
"""The host's fields that are told of."""

SECONDS: Final = Parameter("seconds", "How far back.", "integer", 60, 366 * 86_400, 86_400)
POINTS: Final = Parameter("limit", "How many cycles at most, about as far apart as each other.", "integer", 2, 1000, 300)
OF: Final = Parameter("guest", "A guest that is there, by id or name, whose fields are told of, too.")

MOST_ASKED: Final = 8
"""Requests that may wait for each other: each reads for some seconds, in a process of its own."""


@described
class RecordedModel(PastModel):
    """A recorded cycle."""

    host: Mapping[str, Any]
    guests_together: Mapping[str, Any]
    """Sums over all guests of which the field was known."""
    guest: Annotated[Mapping[str, Any] | None, Field(description="null: it was not there, or not asked for.")]


class RecordedRoutes:
    """Cycles that a recorder has kept."""

    def __init__(self, answers: CycleAnswers, worker: Worker) -> None:
        self._answers = answers
        self._worker = worker

    def routes(self) -> list[Route]:
        """Its operation."""
        return [Route("GET", "/v1/recorded", self.recorded, Items[RecordedModel], parameters=(SECONDS, POINTS, OF))]

    async def recorded(self, call: ApiCall) -> Items[RecordedModel]:
        """Cycles of past days, oldest first, where the plugin record keeps them."""
        kept = offered(self._answers.context, RecordedPoints, "records", "record")
        guest = found_guest(self._answers.view(), str(call.query["guest"])).id if "guest" in call.query else ""
        until = time.time()
        asked = PointsAsked(until - call.number(SECONDS), until, call.number(POINTS), HOST_RECORDED, SUMMED, guest, GUEST_HISTORY)
        return {
            "items": [
                {
                    "cycle": one.number,
                    "time": one.time,
                    "duration_seconds": one.duration,
                    "host": one.host,
                    "guests_together": one.together,
                    "guest": one.guest,
                }
                for one in await self._worker.run(lambda: kept.recorded_points(asked))
            ]
        }
