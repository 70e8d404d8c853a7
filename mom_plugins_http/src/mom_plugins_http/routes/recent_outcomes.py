"""What came of decisions in past cycles."""

from __future__ import annotations

from starlette.responses import Response

from mom_daemon import OutcomeModel, Time, outcome_model
from mom_plugins_http.routes.answers import CycleAnswers, PastPage, asked_entity, json_answer
from mom_plugins_http.routes.route import GUEST, LIMIT, ApiCall, Route
from mom_toolkit import json_text


class RecentOutcomeModel(OutcomeModel):
    """What came of a decision, and in which cycle."""

    cycle: int
    time: Time


class RecentOutcomeRoutes:
    """What was done; of the newest cycle, the report says it."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operation."""
        past = "What came of decisions in past cycles, newest first, without what stood so already; 100 of each cycle, 1,000 in all."
        model = PastPage[RecentOutcomeModel]
        return [Route("GET", "/v1/recent-outcomes", "recentOutcomes", past, self.recent_outcomes, model, parameters=(LIMIT, GUEST))]

    async def recent_outcomes(self, call: ApiCall) -> Response:
        """What was done in past cycles."""
        done = self._answers.published.done()
        if "guest" in call.query:
            known = asked_entity(call, self._answers.view())
            done = [one for one in done if one.outcome.decision.entity.id == known]
        items: list[RecentOutcomeModel] = [
            {"cycle": one.number, "time": one.time, **outcome_model(one.outcome)} for one in done[: call.limit]
        ]
        return json_answer(json_text({"next": None, "items": items}))
