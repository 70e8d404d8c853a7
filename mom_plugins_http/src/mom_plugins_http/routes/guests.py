"""Guests: as they are, why they are so, and how they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import Guest, GuestColumn, printable
from mom_daemon import (
    AnyValue,
    CycleModel,
    DecisionModel,
    Mode,
    OutcomeModel,
    RevisionModel,
    StandingProblemModel,
    Time,
    cycle_model,
    decision_model,
    described,
    guest_columns,
    outcome_model,
    problem_model,
    revision_model,
    standing_problems,
)
from mom_plugins_http.routes.answers import FIELDS, CycleAnswers, Items, PastModel, found_guest, known_guests, past_cycles, wanted_fields
from mom_plugins_http.routes.published import GUEST_HISTORY, CycleSample, ReportView
from mom_plugins_http.routes.route import LIMIT, ApiCall, Parameter, Route
from mom_plugins_http.server.problems import ProblemError

FIELD: Final = Parameter("field", "The field; without it, balloon_cur.")
POINTS: Final = Parameter("limit", "How many cycles, the newest.", "integer", 1, 120, 60)


@described
class GuestModel(TypedDict):
    """A guest as it was in the last cycle; fields that are not known of it are left out."""

    id: str
    name: str
    blocked: Mapping[str, str]
    """By control, why it cannot be set."""
    columns: Mapping[str, AnyValue]
    """Its figures by the names of `guest_columns` in the report, in their units; null is unknown."""
    fields: Mapping[str, Any]


class GuestWithDecisionsModel(GuestModel):
    """The same, with what was decided for it."""

    cycle: CycleModel
    properties: Mapping[str, Any]
    decisions: list[DecisionModel]
    revisions: list[RevisionModel]
    outcomes: list[OutcomeModel]
    problems: list[StandingProblemModel]


class PastGuestModel(PastModel):
    """A guest in a past cycle."""

    fields: Mapping[str, Any]


@described
class GuestHistoriesModel(TypedDict):
    """One field of all guests in the last cycles."""

    field: str
    times: list[Time]
    guests: Mapping[str, list[Any]]
    """By guest id, a value for each of `times`, in the field's unit; null is unknown."""


class IdentityModel(TypedDict):
    """A guest."""

    id: str
    name: str


class SentenceModel(TypedDict):
    """A sentence, to be printed below a heading for its topic."""

    topic: str
    text: str


@described
class ExplanationModel(TypedDict):
    """Why a guest has its size; in `sentences` for a person, to be printed in this order below a heading for each topic. Plugins add
    figures of their own, such as `memory` and `since` of the plugin balloon."""

    guest: IdentityModel
    properties: Mapping[str, Any]
    """What its platform says of it."""
    cycle: int
    time: Time
    mode: Mode
    interval_seconds: Annotated[float | None, Field(description="null: unknown.", json_schema_extra={"x-unit": "s"})]
    decisions: list[Mapping[str, Any]]
    """Each with its reason, the policy's line, revisions and outcome."""
    why_unchanged: str
    """Why no policy wants another size; empty: one does, or it is not known."""
    problems: list[Mapping[str, Any]]
    trial: list[Mapping[str, Any]] | None
    """Decisions in which policies on trial differ; null without a trial."""
    unknown: list[str]
    sentences: list[SentenceModel]


class GuestRoutes:
    """Everything about guests."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operations."""
        one, past = "/v1/guests/{guest}", Items[PastGuestModel]
        return [
            Route("GET", "/v1/guests", self.guests, Items[GuestModel], parameters=(FIELDS,)),
            Route("GET", "/v1/guest-histories", self.guest_histories, GuestHistoriesModel, parameters=(FIELD, POINTS)),
            Route("GET", one, self.guest, GuestWithDecisionsModel),
            Route("GET", f"{one}/explanation", self.guest_explanation, ExplanationModel),
            Route("GET", f"{one}/history", self.guest_history, past, parameters=(LIMIT,)),
        ]

    async def guests(self, call: ApiCall) -> bytes:
        """All guests, in the order of their names."""
        names = wanted_fields(call, self._answers.view().declarations)

        def made(view: ReportView) -> Items[GuestModel]:
            columns = _columns(view)
            return {"items": [_guest(guest, columns, names) for guest in known_guests(view).values()]}

        return self._answers.kept(("guests", names), made)

    async def guest(self, call: ApiCall) -> bytes:
        """One guest by id or name, with what was decided for it."""
        guest = found_guest(self._answers.view(), call.path["guest"])

        def made(view: ReportView) -> GuestWithDecisionsModel:
            report = view.report
            return {
                **_guest(guest, _columns(view)),
                "cycle": cycle_model(view.report),
                "properties": guest.properties,
                "decisions": [decision_model(one) for one in report.decisions if one.entity.id == guest.id],
                "revisions": [revision_model(one) for one in report.revisions if one.before.entity.id == guest.id],
                "outcomes": [outcome_model(one) for one in report.outcomes if one.decision.entity.id == guest.id],
                "problems": [
                    problem_model(one)
                    for one in standing_problems(report, view.state)
                    if one.entity is not None and one.entity.id == guest.id
                ],
            }

        return self._answers.kept(("guest", guest.id), made)

    async def guest_explanation(self, call: ApiCall) -> bytes:
        """Why a guest has the size that it has, in numbers and in sentences."""
        guest = found_guest(self._answers.view(), call.path["guest"])

        def made(view: ReportView) -> object:
            texts = {} if view.policies is None else {name: policy.text for name, policy in view.policies.texts.items()}
            return self._answers.published.explainers.explain(view.report, guest, texts=texts, declarations=view.declarations)

        return self._answers.kept(("explanation", guest.id), made)

    async def guest_history(self, call: ApiCall) -> object:
        """The most important fields of one guest in past cycles, newest first."""
        guest = found_guest(self._answers.view(), call.path["guest"])

        def values(sample: CycleSample) -> dict[str, object] | None:
            kept = None if sample.guests is None else sample.guests.fields(guest.id)
            return None if kept is None else {"fields": kept}

        return past_cycles(self._answers, call, values)

    async def guest_histories(self, call: ApiCall) -> bytes:
        """One field of all guests in the last cycles, oldest first."""
        field, points = str(call.query.get("field", GUEST_HISTORY[0])), call.number(POINTS)
        if field not in GUEST_HISTORY:
            raise ProblemError(400, f"no history is kept of {printable(field)}", f"it is of {', '.join(GUEST_HISTORY)}")

        def made(view: ReportView) -> GuestHistoriesModel:
            kept = [(sample.time, sample.guests) for sample in self._answers.published.history()[-points:] if sample.guests is not None]
            values = {guest: [past.field(field, guest) for _, past in kept] for guest in view.report.snapshot.guests}
            return {"field": field, "times": [when for when, _ in kept], "guests": values}

        return self._answers.kept(("histories", field, points), made)


def _columns(view: ReportView) -> list[GuestColumn]:
    return [one for one in guest_columns(view.declarations) if one.rank is not None]


def _guest(guest: Guest, columns: Sequence[GuestColumn], names: Sequence[str] | None = None) -> GuestModel:
    """A guest with all its fields, or with those of these names."""
    known = guest.fields
    return {
        "id": guest.id,
        "name": guest.name,
        "blocked": guest.blocked,
        "columns": {one.name: one.value(known) for one in columns},
        "fields": dict(known) if names is None else {name: known[name] for name in names if name in known},
    }
