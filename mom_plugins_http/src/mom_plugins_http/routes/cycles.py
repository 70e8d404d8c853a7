"""The newest cycle and those before it; who asks, and what is so until the configuration changes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import Field
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import Scope, Severity
from mom_daemon import (
    EntityModel,
    OutcomeModel,
    ReportDocument,
    Seconds,
    SourceModel,
    StatusModel,
    Time,
    common_problems,
    described,
    outcome_model,
    standing_problems,
    told,
)
from mom_kvm import PointsAsked, RecordedPoints
from mom_plugins_http.routes.acts import STEP_GAP_SECONDS, ActModel, Words, acts
from mom_plugins_http.routes.answers import (
    FIELDS,
    CycleAnswers,
    Items,
    PastModel,
    about,
    as_object,
    found_guest,
    offered,
    past_cycles,
    wanted_fields,
)
from mom_plugins_http.routes.published import GUEST_HISTORY, CycleSample, ReportView
from mom_plugins_http.routes.route import GUEST, LIMIT, ApiCall, Parameter, Route
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.server import Worker

NAMED: Final = 10
"""Entities that are told of those that have a problem; `/v1/report` has each by itself."""


SECONDS: Final = Parameter("seconds", "How far back.", "integer", 60, 366 * 86_400, 86_400)
UNTIL: Final = Parameter("until", "Until when, in seconds since the epoch; if it is not given, until now.", "integer", 0, 1 << 40)
POINTS: Final = Parameter("limit", "How many items at most, about as far apart as each other.", "integer", 2, 1000, 300)
HOST_FIELDS: Final = replace(FIELDS, description=FIELDS.description.replace("each guest", "the host"))
OF: Final = Parameter("guest", "A guest that is there, by id or name, whose fields are told of in place of the host's.")

TOGETHER: Final = Parameter("together", "1: one item for all guests to which the same was done for the same reason.", "integer", 0, 1, 0)

MOST_ASKED: Final = 8
"""Requests that may wait for each other: each reads for some seconds, in a process of its own."""


class ClientModel(TypedDict):
    """A client, and what it may do."""

    name: str
    right: Annotated[str, Field(json_schema_extra={"enum": [right.name.lower() for right in Right]})]
    local: bool


class DeclaredModel(TypedDict):
    """Something that a plugin declares."""

    name: str
    scope: Scope
    unit: str
    description: str
    plugin: str


class FieldModel(DeclaredModel):
    """Something that is collected."""

    source: str


class ControlModel(DeclaredModel):
    """Something that can be set."""

    field: str
    minimum: float | None
    maximum: float | None
    choices: list[int]


@described
class PastHostModel(PastModel):
    """The host in a past cycle."""

    fields: Mapping[str, Any]
    guests_together: Mapping[str, Any]
    """Sums over all guests of which the field is known; null where it is known of none."""


@described
class RecordedModel(TypedDict):
    """Some time of the host, of which `time` is the middle, or a recorded cycle of one guest."""

    time: Time
    seconds: Seconds
    """How long it was; 0: one cycle."""
    least: Mapping[str, Any]
    """Of the host's fields, and of sums over guests, which are called `guests.` and the field."""
    mean: Mapping[str, Any]
    most: Mapping[str, Any]
    guest: Annotated[Mapping[str, Any] | None, Field(description="null: it was not there, or not asked for.")]


class RecentOutcomeModel(OutcomeModel):
    """An outcome, and its cycle."""

    cycle: int
    time: Time


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


class CycleRoutes:
    """Operations on cycles as a whole. Guests have resources of their own.

    :param worker: reads past days
    """

    def __init__(self, answers: CycleAnswers, worker: Worker) -> None:
        self._answers = answers
        self._worker = worker

    def routes(self) -> list[Route]:
        """Its operations."""
        return [
            Route("GET", "/v1/whoami", self.whoami, ClientModel),
            Route("GET", "/v1/report", self.report, ReportDocument, parameters=(FIELDS,)),
            Route("GET", "/v1/status", self.status, StatusModel),
            Route("GET", "/v1/configuration", self.configuration, Mapping[str, Any]),
            Route("GET", "/v1/fields", self.fields, Items[FieldModel]),
            Route("GET", "/v1/controls", self.controls, Items[ControlModel]),
            Route("GET", "/v1/host/history", self.host_history, Items[PastHostModel], parameters=(LIMIT, HOST_FIELDS)),
            Route("GET", "/v1/recorded", self.recorded, Items[RecordedModel], parameters=(SECONDS, UNTIL, POINTS, OF)),
            Route("GET", "/v1/recent-outcomes", self.recent_outcomes, Items[RecentOutcomeModel], parameters=(LIMIT, GUEST)),
            Route("GET", "/v1/acts", self.acts, Items[ActModel], parameters=(LIMIT, GUEST, TOGETHER)),
            Route("GET", "/v1/problems", self.problems, Items[CommonProblemModel], parameters=(GUEST,)),
        ]

    async def whoami(self, call: ApiCall) -> ClientModel:
        """Who the client is to mom, and what it may do, so that no client is offered what is refused."""
        return {"name": call.peer.name, "right": call.peer.right.name.lower(), "local": call.peer.local}

    async def report(self, call: ApiCall) -> bytes:
        """All of the newest cycle as one document, as the status file has it: what it saw, decided and did, and what is wrong."""
        names = wanted_fields(call, self._answers.view().declarations)
        return self._answers.kept(("report", names), lambda view: view.document(self._answers.context.interval, names))

    async def status(self, call: ApiCall) -> bytes:
        """How mom is: the report without guests, fields and lists of what was decided."""

        def made(view: ReportView) -> Mapping[str, object]:
            report = view.document(self._answers.context.interval, ())
            return {name: value for name, value in report.items() if name in StatusModel.__annotations__}

        return self._answers.kept("status", made)

    async def configuration(self, call: ApiCall) -> object:
        """The settings in force; secrets are masked."""
        return self._answers.context.configuration()

    async def fields(self, call: ApiCall) -> object:
        """All fields, with units."""
        declared = self._answers.view().declarations
        return {"items": [told(FieldModel, spec, plugin=declared.field_owners.get(key, "")) for key, spec in declared.fields.items()]}

    async def controls(self, call: ApiCall) -> object:
        """All controls, with units and bounds."""
        declared = self._answers.view().declarations
        owners = declared.control_owners
        return {"items": [told(ControlModel, spec, plugin=owners.get(name, "")) for name, spec in declared.controls.items()]}

    async def host_history(self, call: ApiCall) -> object:
        """The host in past cycles, newest first."""
        names = wanted_fields(call, self._answers.context.declarations, Scope.HOST)

        def values(sample: CycleSample) -> dict[str, object]:
            fields = sample.host if names is None else {name: sample.host[name] for name in names if name in sample.host}
            return {"fields": fields, "guests_together": sample.together}

        return past_cycles(self._answers, call, values)

    async def recorded(self, call: ApiCall) -> Items[RecordedModel]:
        """Past days, oldest first, where the plugin record keeps them: the host up to a few minutes ago, or cycles of one guest."""
        kept = offered(self._answers.context, RecordedPoints, "records", "record")
        guest = found_guest(self._answers.view(), str(call.query["guest"])).id if "guest" in call.query else ""
        until = call.number(UNTIL) or time.time()
        asked = PointsAsked(until - call.number(SECONDS), until, call.number(POINTS), guest, GUEST_HISTORY)
        points = await self._worker.run(lambda: kept.recorded_points(asked), call.peer.user)
        return {"items": [told(RecordedModel, one) for one in points]}

    async def recent_outcomes(self, call: ApiCall) -> object:
        """Outcomes of past cycles, newest first, without what stood so already; 100 of each cycle, 1,000 in all."""
        done = about(call, self._answers.view(), self._answers.published.done(), lambda one: one.outcome.decision.entity)
        return {"items": [{"cycle": one.number, "time": one.time, **outcome_model(one.outcome)} for one in done[: call.number(LIMIT)]]}

    async def acts(self, call: ApiCall) -> bytes:
        """List what mom did lately in words, newest first: of past cycles 100 outcomes each, 1,000 in all, and changes of policies."""
        limit, together, asked = call.number(LIMIT), call.number(TOGETHER), call.query.get("guest")
        done = about(call, self._answers.view(), self._answers.published.done(), lambda one: one.outcome.decision.entity)

        def made(view: ReportView) -> object:
            published, units = self._answers.published, {name: str(spec.unit) for name, spec in view.declarations.controls.items()}
            gap = max(STEP_GAP_SECONDS, 3 * self._answers.context.interval)
            notes, words = published.notes if asked is None else (), Words(units, published.explainers.by_control())
            return {"items": acts(done, notes, words, gap, together=bool(together))[:limit]}

        return self._answers.kept(("acts", limit, together, asked), made)

    async def problems(self, call: ApiCall) -> object:
        """Problems, and since when they stand, each once for all guests that have it; the report has each by itself."""
        view = self._answers.view()
        standing = about(call, view, standing_problems(view.report, view.state), lambda one: one.entity)
        return {
            "items": [
                {**as_object(one), "about": len(one.about), "first": as_object(one.about[:NAMED]), "who": one.who}
                for one in common_problems(standing)
            ]
        }
