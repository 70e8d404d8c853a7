"""What is wrong, and since when."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_cli import CommonProblem, common_problems
from mom_core import Problem, Severity
from mom_daemon import (
    EntityModel,
    SourceModel,
    StandingProblemModel,
    Time,
    described,
    entity_model,
    source_model,
    standing_model,
    standing_problems,
)
from mom_plugins_http.routes.answers import CycleAnswers, Page, about
from mom_plugins_http.routes.published import ReportView
from mom_plugins_http.routes.route import AFTER, GUEST, LIMIT, ApiCall, Route

NAMED: Final = 10
"""Entities that are told of those that have a problem; `/v1/problems` has them all."""


@described
class CommonProblemModel(TypedDict):
    """One problem, and all guests that have it."""

    severity: Severity
    source: SourceModel
    about: int
    """How many guests have it, or 1 for the host; 0: it is about none."""
    first: list[EntityModel]
    """The first of them."""
    who: str
    """The same in words."""
    message: str
    hint: str
    """Where each has its own, that of the first, with its name."""
    since: Time
    cycles: int
    """In which it was seen."""


class ProblemRoutes:
    """Everything that is wrong."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operations."""
        page, common = (LIMIT, AFTER, GUEST), "What is wrong, each thing once for all guests that have it."
        each = "What is wrong, and since when."
        return [
            Route("GET", "/v1/problems", "problems", each, self.problems, Page[StandingProblemModel], parameters=page),
            Route("GET", "/v1/common-problems", "commonProblems", common, self.common, Page[CommonProblemModel], parameters=page),
        ]

    async def problems(self, call: ApiCall) -> Response:
        """Each by itself."""
        return self._answers.paged(call, "problems", lambda view: _about(call, view), standing_model)

    async def common(self, call: ApiCall) -> Response:
        """Each thing once for all guests that have it."""
        return self._answers.paged(call, "common problems", lambda view: common_problems(_about(call, view)), common_model)


def _about(call: ApiCall, view: ReportView) -> list[Problem]:
    return list(about(call, view, standing_problems(view.report, view.state), lambda one: one.entity))


def common_model(problem: CommonProblem) -> CommonProblemModel:
    """As JSON."""
    return {
        "severity": problem.severity,
        "source": source_model(problem.source),
        "about": len(problem.about),
        "first": [entity_model(one) for one in problem.about[:NAMED]],
        "who": problem.who,
        "message": problem.message,
        "hint": problem.hint,
        "since": problem.since,
        "cycles": problem.cycles,
    }
