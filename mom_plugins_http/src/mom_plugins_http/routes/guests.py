"""Operations on guests: current values, explanation and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from mom_core import Guest, GuestColumn, printable
from mom_daemon import guest_columns
from mom_daemon import report_models as reports
from mom_plugins_http.routes.published import GUEST_HISTORY, CycleSample, Items, PastModel, Published, ReportView
from mom_plugins_http.routes.route import ApiCall, FieldsQuery, LimitQuery, Query, Route
from mom_plugins_http.server.problems import ProblemError


class HistoriesQuery(Query):
    """Query for one field of all guests."""

    field: str = GUEST_HISTORY[0]
    """Field with a history."""
    limit: Annotated[int, Field(ge=1, le=120)] = 60
    """Number of newest cycles to return."""


@reports.described
class GuestModel(TypedDict):
    """Guest in the last cycle, with its known fields."""

    id: str
    name: str
    blocked: Mapping[str, str]
    """Reasons why mom cannot set controls, keyed by control."""
    columns: Mapping[str, reports.AnyValue]
    """Figures with the names and units of the report's `guest_columns`; null is unknown."""
    fields: Mapping[str, Any]


class PastGuestModel(PastModel):
    """Guest in a past cycle."""

    fields: Mapping[str, Any]


@reports.described
class GuestHistoriesModel(TypedDict):
    """Field of all guests in the last cycles."""

    field: str
    times: list[reports.Time]
    guests: Mapping[str, list[Any]]
    """Mapping from guest id to the values at `times`, in the field's unit; null is unknown."""


class IdentityModel(TypedDict):
    """Id and name of a guest."""

    id: str
    name: str


class SentenceModel(TypedDict):
    """Sentence, to be shown under a heading for its topic."""

    topic: str
    text: str


@reports.described
class ExplanationModel(TypedDict):
    """Reasons for a guest's size, in figures and in `sentences`. Plugins add members, such as the balloon's `memory` and `since`."""

    guest: IdentityModel
    properties: Mapping[str, Any]
    """Guest's properties, as its platform reports them."""
    cycle: int
    time: reports.Time
    mode: reports.Mode
    interval_seconds: Annotated[float | None, Field(description="null if unknown.", json_schema_extra={"x-unit": "s"})]
    decisions: list[Mapping[str, Any]]
    """Decisions, each with its reason, the policy's line, revisions and outcome."""
    why_unchanged: str
    """Why no policy requests another size; empty if a policy does, or if the reason is unknown."""
    problems: list[Mapping[str, Any]]
    trial: list[Mapping[str, Any]] | None
    """Decisions that policies on trial would change; null without a trial."""
    unknown: list[str]
    sentences: list[SentenceModel]


class GuestRoutes:
    """Operations on guests."""

    def __init__(self, published: Published) -> None:
        self._published = published

    @Route("GET", "/v1/guests", Items[GuestModel], query=FieldsQuery)
    async def guests(self, call: ApiCall) -> bytes:
        """List all guests, sorted by name."""
        names = self._published.view().queried_fields(call)

        def make(view: ReportView) -> Items[GuestModel]:
            columns = _columns(view)
            return {"items": [_guest(guest, columns, names) for guest in view.guests().values()]}

        return self._published.cached(("guests", names), make)

    @Route("GET", "/v1/guest-histories", GuestHistoriesModel, query=HistoriesQuery)
    async def guest_histories(self, call: ApiCall) -> bytes:
        """Return one field of all guests in the last cycles, oldest first."""
        field, points = call.query.field, call.query.limit
        if field not in GUEST_HISTORY:
            raise ProblemError(400, f"mom keeps no history of {printable(field)}", f"fields with a history: {', '.join(GUEST_HISTORY)}")

        def make(view: ReportView) -> GuestHistoriesModel:
            kept = [(sample.time, sample.guests) for sample in self._published.history()[-points:] if sample.guests is not None]
            values = {guest: [past.field(field, guest) for _, past in kept] for guest in view.report.snapshot.guests}
            return {"field": field, "times": [when for when, _ in kept], "guests": values}

        return self._published.cached(("histories", field, points), make)

    @Route("GET", "/v1/guests/{guest:path}/explanation", ExplanationModel)
    async def guest_explanation(self, call: ApiCall) -> bytes:
        """Return the reasons for a guest's size, in figures and in sentences."""
        guest = self._published.view().guest(call.path["guest"])

        def make(view: ReportView) -> object:
            texts = {} if view.policies is None else {name: policy.text for name, policy in view.policies.texts.items()}
            return self._published.explainers.explain(view.report, guest, texts=texts, declarations=view.declarations)

        return self._published.cached(("explanation", guest.id), make)

    @Route("GET", "/v1/guests/{guest:path}/history", Items[PastGuestModel], query=LimitQuery)
    async def guest_history(self, call: ApiCall) -> object:
        """List the main fields of one guest in past cycles, newest first."""
        guest = self._published.view().guest(call.path["guest"])

        def values(sample: CycleSample) -> dict[str, object] | None:
            kept = None if sample.guests is None else sample.guests.fields(guest.id)
            return None if kept is None else {"fields": kept}

        return self._published.past(call, values)

    @Route("GET", "/v1/guests/{guest:path}", GuestModel)
    async def guest(self, call: ApiCall) -> bytes:
        """Return one guest by id or name."""
        guest = self._published.view().guest(call.path["guest"])
        return self._published.cached(("guest", guest.id), lambda view: _guest(guest, _columns(view)))


def _columns(view: ReportView) -> list[GuestColumn]:
    return [column for column in guest_columns(view.declarations) if column.rank is not None]


def _guest(guest: Guest, columns: Sequence[GuestColumn], names: Sequence[str] | None = None) -> GuestModel:
    fields = guest.fields
    return {
        "id": guest.id,
        "name": guest.name,
        "blocked": guest.blocked,
        "columns": {column.name: column.value(fields) for column in columns},
        "fields": dict(fields) if names is None else {name: fields[name] for name in names if name in fields},
    }
