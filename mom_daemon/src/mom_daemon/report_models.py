"""Report of one cycle as a document."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import (
    Declarations,
    EngineState,
    Entity,
    GuestColumn,
    Outcome,
    PluginReport,
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
from mom_kvm import PlatformProperties

Model = TypeVar("Model")

REPORT_FORMAT: Final = 3

described = with_config(ConfigDict(use_attribute_docstrings=True))
"""Decorator: members' docstrings become their descriptions in the schema."""

AnyValue = Annotated[Any, Field(description="Value in the unit of its field or control; null if unknown.")]

Seconds = Annotated[float, Field(json_schema_extra={"x-unit": "s"})]

Time = Annotated[float, Field(description="Seconds since the epoch.", json_schema_extra={"x-unit": "s"})]

Mode = Annotated[str, Field(json_schema_extra={"enum": ["enforce", "observe"]})]
"""`enforce`: mom acts; `observe`: it only reports its decisions."""


class EntityModel(TypedDict):
    """Host or a guest."""

    scope: Scope
    id: str
    name: str


class SourceModel(TypedDict):
    """Line of a policy, or a plugin (then the line is 0)."""

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
    """Fault of the host as a whole."""

    name: str
    """Stable name; the message may change."""
    severity: Severity
    message: str
    """Current state, on one line."""
    why: str
    """Reason of the condition; may be empty."""
    cure: str
    """How to fix the condition; may be empty."""
    plugins: list[str]
    """Plugins that report the condition."""
    since: Time
    lasted_seconds: Seconds
    over_seconds: Seconds
    """Time since plugins last reported the condition; 0 while one does. The condition disappears after a minute."""


@described
class VerdictModel(TypedDict):
    """State of the host as a whole."""

    severity: Severity
    """Severity of the worst condition; ok without conditions. With error, the operator must act."""
    conditions: list[ConditionModel]
    """The worst condition first, cleared conditions last."""


class PluginModel(TypedDict):
    """State of one plugin: calls and failures since the start, and durations of its hooks in this cycle."""

    name: str
    distribution: str
    version: str
    state: PluginReport.State
    calls: int
    failures: int
    last_error: str
    retry_in_seconds: Seconds
    durations_seconds: Mapping[str, Seconds]


@described
class StandingProblemModel(TypedDict):
    """Problem in the present cycle."""

    severity: Severity
    source: SourceModel
    entity: EntityModel | None
    message: str
    hint: str
    since: Time
    cycles: int
    """Number of cycles with the problem."""


class DecisionModel(TypedDict):
    """Decision of an evaluator."""

    entity: EntityModel
    control: str
    value: AnyValue
    reason: str
    source: SourceModel


class OutcomeModel(DecisionModel):
    """Decision with its outcome."""

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
    """Reason of the decision."""
    became: AnyValue
    dropped: bool
    reason: str
    """Reason of the change."""
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
    """The first hundred differences."""


class ReportedHostModel(TypedDict):
    """Host."""

    name: str
    fields: Mapping[str, Any]


@described
class GuestTableModel(TypedDict):
    """All guests, one row each."""

    columns: list[str]
    """`id`, `name`, `blocked` (reasons why controls cannot be set), `properties` (from the guest's platform), then the keys of
    `guest_columns` and the names of fields."""
    rows: list[list[Any]]
    """One value for each column, in its unit; null is unknown."""


@described
class GuestColumnModel(TypedDict):
    """Statistic of guests, for people."""

    name: str
    """Heading."""
    key: str
    """Column with the values, in the table of guests."""
    unit: str
    about: str
    """Meaning, as a sentence without a full stop."""
    rank: int
    """Narrow screens omit the highest-ranked columns first, never rank 0."""
    mark_from: float | None
    """Smallest value that is highlighted; null if none is."""


@described
class StatusModel(TypedDict):
    """State of mom, and counts of its last cycle."""

    format: int
    """Version of the document's format."""
    version: str
    """mom's version."""
    pid: int
    configuration_file: str | None
    mode: Mode
    interval_seconds: Seconds
    """Time between two cycles."""
    started_at: Time
    hypervisor: str
    """Hypervisor's URI."""
    monotonic_seconds: Seconds
    """End of the cycle by the host's CLOCK_MONOTONIC."""
    cycle: CycleModel
    verdict: VerdictModel | None
    """null if unknown."""
    to_put_back: int
    """Number of changes that mom would undo if it stopped now."""
    plugins: list[PluginModel]
    decisions: int
    outcome_counts: Mapping[str, int]
    """Number of outcomes by status."""


@described
class ReportDocument(StatusModel):
    """Report of one cycle, with problems, units and columns."""

    problems: list[StandingProblemModel]
    fields: Mapping[str, str]
    """Units of fields by scope and name, such as `guest.balloon_cur`."""
    controls: Mapping[str, str]
    """Units of controls."""
    host: ReportedHostModel
    guest_columns: list[GuestColumnModel]
    """Columns of guests' statistics, from left to right."""
    guests: GuestTableModel
    trial: TrialModel | None
    """null if no policies are on trial."""
    revisions: list[RevisionModel]
    outcomes: list[OutcomeModel]


_SHOWN_DIFFERENCES: Final = 100


def status_document(report: Report, state: EngineState, interval: float, *, monotonic: float | None = None) -> StatusModel:
    """Return mom's state with one cycle's counts. Times are in seconds."""
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
        "cycle": told(CycleModel, report),
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
    """Return a report's document with the engine's state.

    :param fields: guest fields to include, besides those of columns; None for all
    """
    snapshot = report.snapshot
    columns = [column for column in guest_columns(declarations) if column.rank is not None]
    keyed = {column.key: column for column in columns}
    fields_shown = [name for scope, name in declarations.fields if scope is Scope.GUEST] if fields is None else fields
    names = [name for name in dict.fromkeys(fields_shown) if name not in keyed]
    return {
        **status_document(report, state, interval, monotonic=monotonic),
        "problems": [told(StandingProblemModel, problem) for problem in standing_problems(report, state)],
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
            [guest.id, guest.name, guest.blocked, PlatformProperties.listed(guest), *cells]
            for guest, *cells in zip(snapshot.listed, *values, strict=True)
        ],
    }


def standing_problems(report: Report, state: EngineState) -> Sequence[Problem]:
    """Return the engine's standing problems, then new problems in the report."""
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
        {"entity": told(EntityModel, entity), "control": control, "decided": decided, "considered": considered}
        for entity, control, decided, considered in different[:_SHOWN_DIFFERENCES]
    ]
    return {"decisions": len(report.considered), "differing": len(different), "differences": shown}


# --- its parts, which other answers of the API share -----------------------------------------------------------------------------------


def told(model: type[Model], origin: object, /, **members: object) -> Model:
    """Build a model from members and `origin`'s attributes, whose names lack the unit `_seconds`."""
    content = {}
    for name in model.__annotations__:
        value = members[name] if name in members else getattr(origin, name.removesuffix("_seconds"))
        content[name] = value._asdict() if isinstance(value, (Entity, Source)) else value
    return cast(Model, content)


def _plugin(plugin: PluginReport, state: EngineState) -> PluginModel:
    distribution, version = state.distributions.get(plugin.name, ("", ""))
    return told(PluginModel, plugin, distribution=distribution, version=version)


def verdict_model(verdict: Verdict) -> VerdictModel:
    """Convert a verdict."""
    return {"severity": verdict.severity, "conditions": [told(ConditionModel, condition) for condition in verdict.conditions]}


def outcome_model(outcome: Outcome) -> OutcomeModel:
    """Convert an outcome."""
    result = {"before": outcome.before, "after": outcome.after, "status": outcome.status, "error": outcome.error}
    return told(OutcomeModel, outcome.decision, **result)


def revision_model(revision: Revision) -> RevisionModel:
    """Convert a revision."""
    before, after = revision.before, revision.after
    made = {"wanted": before.value, "wanted_because": before.reason, "became": None if after is None else after.value}
    about = {"entity": before.entity, "control": before.control, "source": before.source}
    return told(RevisionModel, revision, **about, **made, dropped=after is None)
