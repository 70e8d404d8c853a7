"""One cycle as one document: what `GET /v1/report` answers, the status file holds, and verbs, `mom top` and the page read.

Models are typed dictionaries: they cost nothing when they are made, ten thousand times a cycle on a large host; mypy holds the code
to them, and pydantic makes their schemas for the API's description.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import (
    Decision,
    Declarations,
    EngineState,
    Entity,
    GuestColumn,
    Outcome,
    PluginReport,
    PluginState,
    Problem,
    Report,
    Revision,
    Scope,
    Severity,
    Snapshot,
    Source,
    Status,
    Verdict,
    __version__,
)
from mom_daemon import guest_columns
from mom_kvm import platform_properties

Model = TypeVar("Model")

REPORT_FORMAT: Final = 3
"""The document's version."""

described = with_config(ConfigDict(use_attribute_docstrings=True))
"""The text below a member of a model describes it."""

AnyValue = Annotated[Any, Field(description="In the unit of its field or control; null is unknown.")]
"""The value of a field or control, as a member of a model."""

Seconds = Annotated[float, Field(json_schema_extra={"x-unit": "s"})]
"""A span of time."""

Time = Annotated[float, Field(description="Seconds since the epoch.", json_schema_extra={"x-unit": "s"})]
"""A moment, in seconds since the epoch."""

Kib = Annotated[float | None, Field(description="null: unknown.", json_schema_extra={"x-unit": "KiB"})]
"""A size; None is unknown."""

Mode = Annotated[str, Field(json_schema_extra={"enum": ["enforce", "observe"]})]
"""`enforce`: mom acts; `observe`: it only reports its decisions."""


class EntityModel(TypedDict):
    """Host or a guest."""

    scope: Scope
    id: str
    name: str


class SourceModel(TypedDict):
    """Policy's place, or a plugin with line 0."""

    name: str
    line: int
    column: int


class CycleModel(TypedDict):
    """Number and times of a cycle."""

    number: int
    time: Time
    duration_seconds: Seconds
    lag_seconds: Seconds
    skipped: int
    woken_by: str


@described
class ConditionModel(TypedDict):
    """One thing that is wrong with the host as a whole."""

    name: str
    """Stays the same while the words change."""
    severity: Severity
    message: str
    """The present state, on one line."""
    why: str
    """May be empty, as `cure`."""
    cure: str
    """The fix."""
    plugins: list[str]
    """Plugins that report it."""
    since: Time
    lasted_seconds: Seconds
    over_seconds: Seconds
    """Time since the last report of it; 0: present. It stays for a minute, and then counts as past (severity ok)."""


@described
class VerdictModel(TypedDict):
    """State of the host as a whole."""

    severity: Severity
    """Severity of the worst condition; ok without one. error: the operator must look."""
    conditions: list[ConditionModel]
    """Worst first, past ones last."""


class PluginModel(TypedDict):
    """State of one plugin: calls and failures since the start, and durations of its hooks in this cycle."""

    name: str
    distribution: str
    version: str
    state: PluginState
    calls: int
    failures: int
    last_error: str
    retry_in_seconds: Seconds
    durations_seconds: Mapping[str, Seconds]


@described
class StandingProblemModel(TypedDict):
    """Present problem."""

    severity: Severity
    source: SourceModel
    entity: EntityModel | None
    message: str
    hint: str
    since: Time
    cycles: int
    """Number of cycles that had it."""


class DecisionModel(TypedDict):
    """Decision of an evaluator."""

    entity: EntityModel
    control: str
    value: AnyValue
    reason: str
    source: SourceModel


class OutcomeModel(DecisionModel):
    """Decision, with its outcome."""

    before: AnyValue
    after: AnyValue
    status: Status
    error: str


@described
class RevisionModel(TypedDict):
    """Change to a decision by review."""

    entity: EntityModel
    control: str
    wanted: AnyValue
    wanted_because: str
    """The decision's own reason."""
    became: AnyValue
    dropped: bool
    reason: str
    """Why it was revised."""
    reviewer: str
    source: SourceModel


class DifferenceModel(TypedDict):
    """Difference between decisions of policies on trial and in force."""

    entity: EntityModel
    control: str
    decided: AnyValue
    considered: AnyValue


@described
class TrialModel(TypedDict):
    """Decisions of policies on trial."""

    decisions: int
    differing: int
    differences: list[DifferenceModel]
    """The first hundred."""


class ReportedHostModel(TypedDict):
    """Host."""

    name: str
    fields: Mapping[str, Any]


@described
class GuestTableModel(TypedDict):
    """All guests, a row for each."""

    columns: list[str]
    """`id`, `name`, `blocked` (by control, why it cannot be set), `properties` (what its platform says of it), and then the keys of
    `guest_columns` and the names of fields."""
    rows: list[list[Any]]
    """A value for each column, in its unit; null is unknown."""


@described
class GuestColumnModel(TypedDict):
    """Figure of guests that a person looks at."""

    name: str
    """Its heading."""
    key: str
    """The column of the table of guests that holds its values."""
    unit: str
    about: str
    """Its meaning, as a sentence without its full stop."""
    rank: int
    """In too little room, columns of the highest rank are left out first; rank 0 stays."""
    mark_from: float | None
    """Least marked value; null: none."""


@described
class StatusModel(TypedDict):
    """State of mom, and counts of its last cycle."""

    format: int
    """Version of the document's form."""
    version: str
    """mom's."""
    pid: int
    configuration_file: str | None
    mode: Mode
    interval_seconds: Seconds
    """Between two cycles."""
    started_at: Time
    hypervisor: str
    """Its URI."""
    monotonic_seconds: Seconds
    """When the cycle ended, by the host's CLOCK_MONOTONIC."""
    cycle: CycleModel
    verdict: VerdictModel | None
    """null: unknown."""
    to_put_back: int
    """Changes that would be put back if mom stopped now."""
    plugins: list[PluginModel]
    decisions: int
    """Number of decisions."""
    outcome_counts: Mapping[str, int]
    """Number of outcomes by status."""


@described
class ReportDocument(StatusModel):
    """One cycle as one document, with problems, units and columns."""

    problems: list[StandingProblemModel]
    """Present problems."""
    fields: Mapping[str, str]
    """Units of fields, by scope and name, such as `guest.balloon_cur`."""
    controls: Mapping[str, str]
    """Units of controls."""
    host: ReportedHostModel
    guest_columns: list[GuestColumnModel]
    """From left to right."""
    guests: GuestTableModel
    trial: TrialModel | None
    """null: no policies are on trial."""
    revisions: list[RevisionModel]
    outcomes: list[OutcomeModel]


_SHOWN_DIFFERENCES: Final = 100
"""Most listed differences; all are counted."""


def status_document(report: Report, state: EngineState, interval: float, *, monotonic: float | None = None) -> StatusModel:
    """Return the state of mom, with counts of the report's cycle.

    :param interval: seconds between two cycles
    :param monotonic: when the cycle ended, in seconds; now without it
    """
    counts: dict[str, int] = dict.fromkeys(Status, 0)
    for outcome in report.outcomes:
        counts[outcome.status] += 1
    return {
        "format": REPORT_FORMAT,
        "version": __version__,
        "pid": os.getpid(),
        "configuration_file": state.file,
        "mode": report.mode,
        "interval_seconds": interval,
        "started_at": state.started_at,
        "hypervisor": state.hypervisor,
        "monotonic_seconds": time.monotonic() if monotonic is None else monotonic,
        "cycle": cycle_model(report),
        "verdict": None if report.verdict is None else verdict_model(report.verdict),
        "to_put_back": len(state.changes),
        "plugins": [_plugin(plugin, state) for plugin in report.plugins],
        "decisions": len(report.decisions),
        "outcome_counts": counts,
    }


def report_document(
    report: Report,
    declarations: Declarations,
    state: EngineState,
    interval: float,
    *,
    monotonic: float | None = None,
    fields: Sequence[str] | None = None,
) -> ReportDocument:
    """Return the document of a report, with the engine's facts beside it.

    :param interval: seconds between two cycles
    :param monotonic: when the cycle ended, in seconds; now without it
    :param fields: of guests, only these and what their columns need; all that are declared without it
    """
    snapshot = report.snapshot
    columns = [column for column in guest_columns(declarations) if column.rank is not None]
    keyed = {column.key: column for column in columns}
    fields_shown = [name for scope, name in declarations.fields if scope is Scope.GUEST] if fields is None else fields
    names = [name for name in dict.fromkeys(fields_shown) if name not in keyed]
    return {
        **status_document(report, state, interval, monotonic=monotonic),
        "problems": [problem_model(problem) for problem in standing_problems(report, state)],
        "fields": {f"{scope}.{name}": spec.unit for (scope, name), spec in declarations.fields.items()},
        "controls": {name: spec.unit for name, spec in declarations.controls.items()},
        "host": {"name": snapshot.host.name, "fields": snapshot.host.fields},
        "guest_columns": [told(GuestColumnModel, column) for column in columns],
        "guests": _guest_table(snapshot, keyed, names),
        "trial": _trial(report),
        "revisions": [revision_model(revision) for revision in report.revisions],
        "outcomes": [outcome_model(outcome) for outcome in report.outcomes],
    }


def _guest_table(snapshot: Snapshot, columns: Mapping[str, GuestColumn], fields: Sequence[str]) -> GuestTableModel:
    values = (*(column.values(snapshot) for column in columns.values()), *map(snapshot.column, fields))
    return {
        "columns": ["id", "name", "blocked", "properties", *columns, *fields],
        "rows": [
            [guest.id, guest.name, guest.blocked, platform_properties(guest), *cells]
            for guest, *cells in zip(snapshot.listed, *values, strict=True)
        ],
    }


def standing_problems(report: Report, state: EngineState) -> Sequence[Problem]:
    """Return the standing problems, and those of the report that the engine did not note."""
    if not report.problems:
        return state.problems
    noted = {(problem.source, problem.entity, problem.message) for problem in state.problems}
    new = [problem for problem in report.problems if (problem.source, problem.entity, problem.message) not in noted]
    return [*state.problems, *(replace(problem, since=report.time, cycles=1) for problem in new)]


def _trial(report: Report) -> TrialModel | None:
    if report.considered is None:
        return None
    different = report.differences()
    shown: list[DifferenceModel] = [
        {"entity": _entity(entity), "control": control, "decided": decided, "considered": considered}
        for entity, control, decided, considered in different[:_SHOWN_DIFFERENCES]
    ]
    return {"decisions": len(report.considered), "differing": len(different), "differences": shown}


_PLAIN: Final[Mapping[str, Any]] = {choice: choice.value for kind in (Scope, Severity, Status) for choice in kind}
"""Choices as texts, which pydantic writes in a quarter of the time."""


# --- its parts, as other answers of the API have them, too -----------------------------------------------------------------------------


def told(model: type[Model], origin: object, /, **members: object) -> Model:
    """Return a model: given members, and attributes of the object for the others."""
    return cast(Model, {name: members[name] if name in members else getattr(origin, name) for name in model.__annotations__})


def cycle_model(report: Report) -> CycleModel:
    """Return the model of a cycle."""
    return told(CycleModel, report, duration_seconds=report.duration, lag_seconds=report.lag)


def _entity(entity: Entity) -> EntityModel:
    return {"scope": _PLAIN[entity.scope], "id": entity.id, "name": entity.name}


def _source(source: Source) -> SourceModel:
    return told(SourceModel, source)


def _plugin(plugin: PluginReport, state: EngineState) -> PluginModel:
    distribution, version = state.distributions.get(plugin.name, ("", ""))
    spans = {"retry_in_seconds": plugin.retry_in, "durations_seconds": plugin.durations}
    return told(PluginModel, plugin, distribution=distribution, version=version, **spans)


def verdict_model(verdict: Verdict) -> VerdictModel:
    """Return the model of a verdict."""
    conditions = [
        told(ConditionModel, condition, plugins=list(condition.plugins), lasted_seconds=condition.lasted, over_seconds=condition.over)
        for condition in verdict.conditions
    ]
    return {"severity": verdict.severity, "conditions": conditions}


def problem_model(problem: Problem) -> StandingProblemModel:
    """Return the model of a standing problem."""
    entity = None if problem.entity is None else _entity(problem.entity)
    return told(StandingProblemModel, problem, severity=_PLAIN[problem.severity], source=_source(problem.source), entity=entity)


def decision_model(decision: Decision) -> DecisionModel:
    """Return the model of a decision."""
    return told(DecisionModel, decision, entity=_entity(decision.entity), source=_source(decision.source))


def outcome_model(outcome: Outcome) -> OutcomeModel:
    """Return the model of an outcome. Written out: each guest has one in each cycle."""
    decision = outcome.decision
    scope, identity, name = decision.entity
    policy, line, column = decision.source
    return {
        "entity": {"scope": _PLAIN[scope], "id": identity, "name": name},
        "control": decision.control,
        "value": decision.value,
        "reason": decision.reason,
        "source": {"name": policy, "line": line, "column": column},
        "before": outcome.before,
        "after": outcome.after,
        "status": _PLAIN[outcome.status],
        "error": outcome.error,
    }


def revision_model(revision: Revision) -> RevisionModel:
    """Return the model of a revision."""
    before, after = revision.before, revision.after
    about = {"entity": _entity(before.entity), "control": before.control, "source": _source(before.source)}
    made = {"wanted": before.value, "wanted_because": before.reason, "became": None if after is None else after.value}
    return told(RevisionModel, revision, **about, **made, dropped=after is None)
