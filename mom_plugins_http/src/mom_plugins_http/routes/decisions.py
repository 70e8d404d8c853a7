"""What was decided, what review made of it, and what came of it: in the last cycle, and in past ones."""

from __future__ import annotations

from starlette.responses import Response

from mom_daemon import (
    DecisionModel,
    DifferenceModel,
    OutcomeModel,
    RevisionModel,
    Time,
    decision_model,
    difference_model,
    outcome_model,
    revision_model,
)
from mom_plugins_http.routes.answers import CycleAnswers, Page, PastPage, about, asked_entity, json_answer
from mom_plugins_http.routes.route import AFTER, GUEST, LIMIT, ApiCall, Route
from mom_toolkit import json_text


class RecentOutcomeModel(OutcomeModel):
    """What came of a decision, and in which cycle."""

    cycle: int
    time: Time


class DecisionRoutes:
    """Everything about decisions."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operations."""
        page = (LIMIT, AFTER, GUEST)
        wanted, revised, came = (
            "What evaluators wanted in the last cycle.",
            "What review changed or dropped.",
            "What came of the decisions.",
        )
        past = "What came of decisions in past cycles, newest first, without what stood so already; 100 of each cycle, 1,000 in all."
        differ, recent = "How policies on trial differ from those in force.", PastPage[RecentOutcomeModel]
        return [
            Route("GET", "/v1/decisions", "decisions", wanted, self.decisions, Page[DecisionModel], parameters=page),
            Route("GET", "/v1/revisions", "revisions", revised, self.revisions, Page[RevisionModel], parameters=page),
            Route("GET", "/v1/outcomes", "outcomes", came, self.outcomes, Page[OutcomeModel], parameters=page),
            Route("GET", "/v1/recent-outcomes", "recentOutcomes", past, self.recent_outcomes, recent, parameters=(LIMIT, GUEST)),
            Route("GET", "/v1/trial", "trial", differ, self.trial, Page[DifferenceModel], parameters=page),
        ]

    async def decisions(self, call: ApiCall) -> Response:
        """What evaluators wanted."""
        return self._answers.paged(
            call, "decisions", lambda view: about(call, view, view.report.decisions, lambda one: one.entity), decision_model
        )

    async def revisions(self, call: ApiCall) -> Response:
        """What review made of it."""
        return self._answers.paged(
            call, "revisions", lambda view: about(call, view, view.report.revisions, lambda one: one.before.entity), revision_model
        )

    async def outcomes(self, call: ApiCall) -> Response:
        """What came of it."""
        return self._answers.paged(
            call, "outcomes", lambda view: about(call, view, view.report.outcomes, lambda one: one.decision.entity), outcome_model
        )

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

    async def trial(self, call: ApiCall) -> Response:
        """How policies on trial differ from those in force."""
        return self._answers.paged(
            call,
            "trial",
            lambda view: about(call, view, view.report.differences(), lambda one: one[0]),
            lambda found: difference_model(*found),
        )
