"""Outcomes of past cycles."""

from __future__ import annotations

from mom_daemon import OutcomeModel, Time, outcome_model
from mom_plugins_http.routes.answers import CycleAnswers, Items, about
from mom_plugins_http.routes.route import GUEST, LIMIT, ApiCall, Route


class RecentOutcomeModel(OutcomeModel):
    """An outcome, and its cycle."""

    cycle: int
    time: Time


class RecentOutcomeRoutes:
    """Outcomes of past cycles; of the newest cycle, the report says it."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operation."""
        return [Route("GET", "/v1/recent-outcomes", self.recent_outcomes, Items[RecentOutcomeModel], parameters=(LIMIT, GUEST))]

    async def recent_outcomes(self, call: ApiCall) -> Items[RecentOutcomeModel]:
        """Outcomes of past cycles, newest first, without what stood so already; 100 of each cycle, 1,000 in all."""
        done = about(call, self._answers.view(), self._answers.published.done(), lambda one: one.outcome.decision.entity)
        return {"items": [{"cycle": one.number, "time": one.time, **outcome_model(one.outcome)} for one in done[: call.number(LIMIT)]]}
