"""Guests: as they are, why they are so, and how they were."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import (
    Annotated,
    Any,
    Final,
    NotRequired,  # pydantic's, for Pythons before 3.12
)

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from mom_core import Declarations, Guest, Scope, Severity, Status, printable
from mom_daemon import (
    AnyValue,
    CycleModel,
    CycleProblemModel,
    DecisionModel,
    GuestFields,
    Kib,
    Mode,
    OutcomeModel,
    RevisionModel,
    SourceModel,
    Time,
    cycle_model,
    decision_model,
    described,
    outcome_model,
    problem_model,
    revision_model,
)
from mom_plugins_http.routes.answers import CycleAnswers, Page, PastPage, bad_cursor, found_guest, json_answer
from mom_plugins_http.routes.host import PastModel, past_answer
from mom_plugins_http.routes.published import GUEST_HISTORY, CycleSample, ReportView
from mom_plugins_http.routes.route import AFTER, LIMIT, ApiCall, Parameter, Route
from mom_plugins_http.server.problems import ProblemError
from mom_toolkit import PolicyTexts, guest_columns, json_text

FIELDS: Final = Parameter(
    "fields",
    "Only these fields of each guest, separated by commas; 400 for one that no plugin declares.",
)
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
    fields: GuestFields


class GuestWithDecisionsModel(GuestModel):
    """The same, with what was decided for it."""

    cycle: CycleModel
    properties: Mapping[str, Any]
    decisions: list[DecisionModel]
    revisions: list[RevisionModel]
    outcomes: list[OutcomeModel]
    problems: list[CycleProblemModel]


class PastGuestModel(PastModel):
    """A guest in a past cycle."""

    fields: Annotated[Mapping[str, Any], Field(json_schema_extra={"x-fields": "history"})]


@described
class GuestHistoriesModel(TypedDict):
    """One field of all guests in the last cycles."""

    field: str
    times: list[Time]
    guests: Mapping[str, list[Any]]
    """By guest id, a value for each of `times`, in the field's unit; null is unknown."""


# --- explanations: the figures of a plugin that is not enabled are missing ---------------------------------------------------------

KibPerSecond = Annotated[float | None, Field(description="null: unknown.", json_schema_extra={"x-unit": "KiB/s"})]
UnknownSeconds = Annotated[float | None, Field(description="null: unknown.", json_schema_extra={"x-unit": "s"})]


class IdentityModel(TypedDict):
    """A guest."""

    id: str
    name: str


class MemoryModel(TypedDict):
    """What a guest has, needs (`used_kib`), is guaranteed, and was asked for."""

    size_kib: Kib
    maximum_kib: Kib
    used_kib: Kib
    usable_kib: Kib
    unused_kib: Kib
    swap_in_kib_per_second: KibPerSecond
    swap_out_kib_per_second: KibPerSecond
    major_faults_per_second: Annotated[float | None, Field(description="null: unknown.", json_schema_extra={"x-unit": "1/s"})]
    statistics_age_seconds: UnknownSeconds
    guarantee_kib: Kib
    asked_kib: Kib


@described
class SinceModel(TypedDict):
    """Since when a guest has its size, and by whom."""

    time: Time
    at_least: bool
    """It had this size already when mom first saw it."""
    by: Annotated[str, Field(json_schema_extra={"enum": ["mom", "maximum", "somebody-else", "unknown"]})]
    before_kib: Kib
    source: SourceModel | None


@described
class PlaceModel(SourceModel):
    """A policy's place, with its text."""

    text: str
    """The policy's line; empty if it is not known."""


class ExplainedRevisionModel(TypedDict):
    """What review did to the decision."""

    reviewer: str
    reason: str
    became: AnyValue
    dropped: bool


class ExplainedOutcomeModel(TypedDict):
    """What came of it."""

    status: Status
    value: AnyValue
    before: AnyValue
    after: AnyValue
    error: str


@described
class ExplainedDecisionModel(TypedDict):
    """What was wanted, why, and what came of it."""

    control: str
    unit: str
    value: AnyValue
    reason: str
    why: str
    """Why the policy wants it, in words; empty if it is not known."""
    source: PlaceModel
    revisions: list[ExplainedRevisionModel]
    outcome: ExplainedOutcomeModel | None


class ExplainedProblemModel(TypedDict):
    """What is wrong with the guest."""

    severity: Severity
    source: SourceModel
    message: str
    hint: str


class ExplainedDifferenceModel(TypedDict):
    """What policies on trial would decide otherwise."""

    control: str
    decided: AnyValue
    considered: AnyValue


class SentenceModel(TypedDict):
    """What to print, below a heading for its topic."""

    topic: str
    text: str


@described
class ExplanationModel(TypedDict):
    """Why a guest has its size. In `sentences`, the same for a person: what to print, in this order, below a heading for each topic."""

    guest: IdentityModel
    cycle: int
    time: Time
    mode: Mode
    interval_seconds: UnknownSeconds
    memory: NotRequired[MemoryModel]
    guarantee_from: NotRequired[str]
    since: NotRequired[SinceModel | None]
    decisions: list[ExplainedDecisionModel]
    why_unchanged: str
    """Why no policy wants another size; empty: one does, or it is not known."""
    asked_again_in_seconds: NotRequired[UnknownSeconds]
    obstacle: NotRequired[str]
    """Why its size cannot be changed, or it gives nothing; empty: nothing does."""
    problems: list[ExplainedProblemModel]
    trial: list[ExplainedDifferenceModel] | None
    """null without a trial."""
    unknown: list[str]
    sentences: list[SentenceModel]


class GuestRoutes:
    """Everything about guests."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operations."""
        one, listed = "/v1/guests/{guest}", (LIMIT, AFTER)
        all_, lately = "All guests, in the order of their names.", "One field of all guests in the last cycles, oldest first."
        this, past = "One guest by id or name, with what was decided for it.", "One guest in past cycles, newest first."
        why = "Why a guest has the size that it has, in numbers and in sentences."
        return [
            Route("GET", "/v1/guests", "guests", all_, self.guests, Page[GuestModel], parameters=(*listed, FIELDS)),
            Route(
                "GET",
                "/v1/guest-histories",
                "guestHistories",
                lately,
                self.guest_histories,
                GuestHistoriesModel,
                parameters=(FIELD, POINTS),
            ),
            Route("GET", one, "guest", this, self.guest, GuestWithDecisionsModel),
            Route("GET", f"{one}/explanation", "guestExplanation", why, self.explanation, ExplanationModel),
            Route("GET", f"{one}/history", "guestHistory", past, self.guest_history, PastPage[PastGuestModel], parameters=listed),
        ]

    async def guests(self, call: ApiCall) -> Response:
        """A page of guests, in the order of their names."""
        view = self._answers.view()
        names = wanted_fields(call, view.declarations)
        return json_answer(view.answer(("guests", call.limit, call.after, names), lambda: json_text(self._guests(view, call, names))))

    def _guests(self, view: ReportView, call: ApiCall, names: Sequence[str] | None) -> Page[GuestModel]:
        guests: Sequence[Guest] = list(view.report.snapshot.guests.values())
        if call.after:
            last = _cursor(call.after)
            guests = [guest for guest in guests if [guest.name, guest.id] > last]
        page = guests[: call.limit]
        following = _write_cursor([page[-1].name, page[-1].id]) if len(guests) > len(page) else None
        total = len(view.report.snapshot.guests)
        return {
            "cycle": view.report.number,
            "total": total,
            "next": following,
            "items": [_guest(guest, view, names) for guest in page],
        }

    async def guest(self, call: ApiCall) -> Response:
        """All of one guest."""
        view = self._answers.view()
        guest = found_guest(view, call.path["guest"])

        def made(view: ReportView) -> GuestWithDecisionsModel:
            report = view.report
            return {
                **_guest(guest, view),
                "cycle": cycle_model(view.report),
                "properties": guest.properties,
                "decisions": [decision_model(one) for one in report.decisions if one.entity.id == guest.id],
                "revisions": [revision_model(one) for one in report.revisions if one.before.entity.id == guest.id],
                "outcomes": [outcome_model(one) for one in report.outcomes if one.decision.entity.id == guest.id],
                "problems": [problem_model(one) for one in report.problems if one.entity is not None and one.entity.id == guest.id],
            }

        return self._answers.kept(("guest", guest.id), made)

    async def explanation(self, call: ApiCall) -> Response:
        """Why a guest is as it is."""
        guest = found_guest(self._answers.view(), call.path["guest"])

        def made(view: ReportView) -> object:
            texts = {} if view.policies is None else {name: policy.text for name, policy in view.policies.texts.items()}
            reasoned = self._answers.context.service(PolicyTexts)

            def reason(control: str) -> str:
                return "" if reasoned is None else reasoned.reason(view.report.number, guest.id, control)

            explainers = self._answers.published.explainers
            return explainers.explain(view.report, guest, texts=texts, declarations=view.declarations, reasons=reason).as_json()

        return self._answers.kept(("explanation", guest.id), made)

    async def guest_history(self, call: ApiCall) -> Response:
        """The most important fields of a guest in past cycles."""
        guest = found_guest(self._answers.view(), call.path["guest"])

        def values(sample: CycleSample) -> dict[str, object] | None:
            kept = None if sample.guests is None else sample.guests.fields(guest.id)
            return None if kept is None else {"fields": kept}

        return past_answer(self._answers, call, values)

    async def guest_histories(self, call: ApiCall) -> Response:
        """One field of all guests in the last cycles: what a list of guests draws beside each."""
        view, field = self._answers.view(), str(call.query.get("field", GUEST_HISTORY[0]))
        if field not in GUEST_HISTORY:
            raise ProblemError(400, f"no history is kept of {printable(field)}", f"it is of {', '.join(GUEST_HISTORY)}")
        points = int(call.query.get("limit", POINTS.default or 0))

        def made() -> bytes:
            samples = [sample for sample in self._answers.published.history()[-points:] if sample.guests is not None]
            kept = [sample.guests for sample in samples if sample.guests is not None]
            values = {guest: [one.field(field, guest) for one in kept] for guest in view.report.snapshot.guests}
            return json_text({"field": field, "times": [sample.time for sample in samples], "guests": values})

        return json_answer(view.answer(("histories", field, points), made))


def wanted_fields(call: ApiCall, declarations: Declarations) -> tuple[str, ...] | None:
    """The fields of guests that are asked for; None: all. Raises `ProblemError` for those that no plugin declares, with near ones."""
    wanted = call.query.get("fields")
    if wanted is None:
        return None
    names = tuple(name.strip() for name in str(wanted).split(",") if name.strip())
    known = [name for scope, name in declarations.fields if scope is Scope.GUEST]
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if not unknown:
        return names
    shown = [printable(name) for name in unknown[:_SHOWN_UNKNOWN]]
    more = f" and {len(unknown) - len(shown)} more" if len(unknown) > len(shown) else ""
    near = [alike[0] for name in unknown[:_SHOWN_UNKNOWN] if (alike := get_close_matches(name[:100], known, 1, 0.6))]
    meant = f"did you mean {', '.join(near)}? " if near else ""
    what = "field" if len(unknown) == 1 else "fields"
    raise ProblemError(400, f"no plugin declares the guest {what} {', '.join(shown)}{more}", f"{meant}GET /v1/fields lists all")


_SHOWN_UNKNOWN: Final = 5


def _cursor(text: str) -> list[str]:
    try:
        found = json.loads(base64.urlsafe_b64decode(text.encode("ascii") + b"=="))
    except (ValueError, binascii.Error, RecursionError):
        raise bad_cursor() from None
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(part, str) for part in found):
        raise bad_cursor()
    return found


def _write_cursor(key: list[str]) -> str:
    return base64.urlsafe_b64encode(json_text(key)).decode("ascii").rstrip("=")


def _guest(guest: Guest, view: ReportView, names: Sequence[str] | None = None) -> GuestModel:
    """A guest with all its fields, or with those of these names."""
    known = guest.fields
    fields = dict(known) if names is None else {name: known[name] for name in names if name in known}
    return {
        "id": guest.id,
        "name": guest.name,
        "blocked": guest.blocked,
        "columns": {one.name: one.value(known) for one in guest_columns(view.declarations) if one.rank is not None},
        "fields": fields,
    }
