"""Operations on cycles and on mom as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import Field
from typing_extensions import TypedDict

from mom_core import Scope, Severity
from mom_daemon import report_models as reports
from mom_daemon.report_words import common_problems
from mom_kvm import RecordedPoints
from mom_plugins_http.routes.acts import STEP_GAP_SECONDS, ActModel, Words, acts
from mom_plugins_http.routes.metrics import MEDIA_TYPE, exposition
from mom_plugins_http.routes.published import GUEST_HISTORY, CycleSample, Items, PastModel, Published, ReportView, as_object, offered
from mom_plugins_http.routes.route import ApiCall, FieldsQuery, GuestQuery, LimitQuery, Query, Route, Text
from mom_plugins_http.server.access import Right
from mom_plugins_http.server.server import Worker

NAMED: Final = 10
"""Maximum number of guests named in a problem."""


class HostHistoryQuery(FieldsQuery, LimitQuery):
    """Query for past cycles of the host."""


class RecordedQuery(Query):
    """Query for the recorded past."""

    seconds: Annotated[int, Field(ge=60, le=366 * 86_400)] = 86_400
    """Length of the span, in seconds."""
    until: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    """End of the span, in seconds since the epoch; default: now."""
    limit: Annotated[int, Field(ge=2, le=1000)] = 300
    """Maximum number of items, which are evenly spaced."""
    guest: Text = None
    """Id or name of a current guest, to return its fields instead of the host's."""


class ActsQuery(GuestQuery, LimitQuery):
    """Query for recent changes."""

    together: Annotated[int, Field(ge=0, le=1)] = 0
    """1: join the same change of several guests for the same reason."""


class ClientModel(TypedDict):
    """Client and its right."""

    name: str
    right: Annotated[str, Field(json_schema_extra={"enum": [right.name.lower() for right in Right]})]
    local: bool


class FieldModel(TypedDict):
    """Field that a plugin collects."""

    name: str
    scope: Scope
    unit: str
    description: str
    plugin: str
    source: str


@reports.described
class PastHostModel(PastModel):
    """Host in a past cycle."""

    fields: Mapping[str, Any]
    guests_together: Mapping[str, Any]
    """Sum of each field over the guests that have it; null if none has it."""


@reports.described
class RecordedModel(TypedDict):
    """Recorded cycles of the host around `time`, or one recorded cycle of one guest."""

    time: reports.Time
    seconds: reports.Seconds
    """Length of the span; 0 for one cycle."""
    least: Mapping[str, Any]
    """Smallest values of the host's fields and, as `guests.FIELD`, of sums over guests."""
    mean: Mapping[str, Any]
    most: Mapping[str, Any]
    guest: Annotated[
        Mapping[str, Any] | None, Field(description="The guest's fields; null if the guest did not exist, or the query names no guest.")
    ]


@reports.described
class CommonProblemModel(TypedDict):
    """Problem and all guests that have it."""

    severity: Severity
    source: reports.SourceModel
    about: int
    """Number of affected guests, or 1 for the host; 0 if neither."""
    first: list[reports.EntityModel]
    """The first ten affected guests, or the host."""
    who: str
    """Affected guests as text."""
    message: str
    hint: str
    """The fix. If fixes differ, the first guest's, with its name."""
    since: reports.Time
    cycles: int
    """Number of cycles with the problem."""


class CycleRoutes:
    """Operations on cycles as a whole."""

    def __init__(self, published: Published, worker: Worker) -> None:
        self._published = published
        self._worker = worker

    @Route("GET", "/v1/whoami", ClientModel)
    async def whoami(self, call: ApiCall) -> ClientModel:
        """Return the identity and right of the client."""
        return {"name": call.peer.name, "right": call.peer.right.name.lower(), "local": call.peer.local}

    @Route("GET", "/v1/report", reports.ReportDocument, query=FieldsQuery)
    async def report(self, call: ApiCall) -> bytes:
        """Return the newest cycle as one document, as in the status file: statistics, decisions, outcomes and problems."""
        names = self._published.view().queried_fields(call)
        return self._published.cached(("report", names), lambda view: self._document(view, names))

    def _document(self, view: ReportView, names: Sequence[str] | None) -> reports.ReportDocument:
        interval = self._published.context.interval
        return reports.report_document(view.report, view.declarations, view.state, interval, monotonic=view.monotonic, fields=names)

    @Route("GET", "/v1/status", reports.StatusModel)
    async def status(self, call: ApiCall) -> bytes:
        """Return the state of mom: the report without guests, fields and decisions."""
        return self._published.status()

    @Route("GET", "/metrics", str, media_type=MEDIA_TYPE)
    async def metrics(self, call: ApiCall) -> bytes:
        """Return metrics for Prometheus."""
        view = self._published.view()
        return view.answer("metrics", lambda: exposition(view))

    @Route("GET", "/v1/configuration", Mapping[str, Any])
    async def configuration(self, call: ApiCall) -> object:
        """Return the settings in force. Secrets are masked."""
        return self._published.context.configuration()

    @Route("GET", "/v1/fields", Items[FieldModel])
    async def fields(self, call: ApiCall) -> object:
        """List all fields, with units."""
        declared = self._published.view().declarations
        return {
            "items": [reports.told(FieldModel, spec, plugin=declared.field_owners.get(key, "")) for key, spec in declared.fields.items()]
        }

    @Route("GET", "/v1/host/history", Items[PastHostModel], query=HostHistoryQuery)
    async def host_history(self, call: ApiCall) -> object:
        """List past cycles of the host, newest first."""
        names = self._published.view().queried_fields(call, Scope.HOST)

        def values(sample: CycleSample) -> dict[str, object]:
            fields = sample.host if names is None else {name: sample.host[name] for name in names if name in sample.host}
            return {"fields": fields, "guests_together": sample.together}

        return self._published.past(call, values)

    @Route("GET", "/v1/recorded", Items[RecordedModel], query=RecordedQuery)
    async def recorded(self, call: ApiCall) -> Items[RecordedModel]:
        """List the past that the record plugin has recorded, oldest first: the host up to a few minutes ago, or cycles of one guest."""
        recorder = offered(self._published.context, RecordedPoints, "records", "record")
        query: RecordedQuery = call.query
        guest = "" if query.guest is None else self._published.view().guest(query.guest).id
        until = query.until or time.time()
        points = await self._worker.run(
            lambda: recorder.recorded_points(until - query.seconds, until, query.limit, guest=guest, guest_fields=GUEST_HISTORY),
            call.peer.user,
        )
        return {"items": [reports.told(RecordedModel, point) for point in points]}

    @Route("GET", "/v1/acts", Items[ActModel], query=ActsQuery)
    async def acts(self, call: ApiCall) -> bytes:
        """List recent changes in words, newest first, including policies and reservations: at most 100 of each cycle, 1,000 in all."""
        query: ActsQuery = call.query
        outcomes = self._published.view().about(call, self._published.outcomes(), lambda past: past.outcome.decision.entity)

        def make(view: ReportView) -> object:
            published, units = self._published, {name: str(spec.unit) for name, spec in view.declarations.controls.items()}
            gap = max(STEP_GAP_SECONDS, 3 * self._published.context.interval)
            notes, words = published.notes if query.guest is None else (), Words(units, published.explainers.by_control())
            return {"items": acts(outcomes, notes, words, gap, together=bool(query.together))[: query.limit]}

        return self._published.cached(("acts", query), make)

    @Route("GET", "/v1/problems", Items[CommonProblemModel], query=GuestQuery)
    async def problems(self, call: ApiCall) -> object:
        """List current problems with their age, each once for all affected guests."""
        view = self._published.view()
        standing = view.about(call, reports.standing_problems(view.report, view.state), lambda problem: problem.entity)
        return {
            "items": [
                {**as_object(common), "about": len(common.about), "first": as_object(common.about[:NAMED]), "who": common.who}
                for common in common_problems(standing)
            ]
        }
