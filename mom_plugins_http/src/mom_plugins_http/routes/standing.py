"""Problems, and since when they stand."""

from __future__ import annotations

from typing import Final

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_cli import CommonProblem, common_problems
from mom_core import Severity
from mom_daemon import EntityModel, SourceModel, Time, described, entity_model, source_model, standing_problems
from mom_plugins_http.routes.answers import CycleAnswers, Items, about
from mom_plugins_http.routes.route import GUEST, ApiCall, Route

NAMED: Final = 10
"""Entities that are told of those that have a problem; `/v1/report` has each by itself."""


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
        """Its operation."""
        return [Route("GET", "/v1/problems", self.problems, Items[CommonProblemModel], parameters=(GUEST,))]

    async def problems(self, call: ApiCall) -> Items[CommonProblemModel]:
        """Problems, and since when they stand, each once for all guests that have it; the report has each by itself."""
        view = self._answers.view()
        standing = about(call, view, standing_problems(view.report, view.state), lambda one: one.entity)
        return {"items": [_model(one) for one in common_problems(standing)]}


def _model(problem: CommonProblem) -> CommonProblemModel:
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
