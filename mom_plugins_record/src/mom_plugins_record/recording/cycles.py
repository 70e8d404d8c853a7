"""Lines of a recording as JSON: cycles, and sessions with data that many cycles share. Format: docs/recordings.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, ValidationError

from mom_core import (
    Condition,
    ControlSpec,
    Decision,
    Entity,
    FieldSpec,
    Guest,
    Host,
    Outcome,
    Problem,
    Report,
    Revision,
    Scope,
    Snapshot,
    Source,
    Status,
    Unit,
    Value,
    Verdict,
    printable,
)
from mom_plugins_record.recording.groups import Corrupt

FARTHEST: Final = 6e10
"""Largest distance from the epoch in seconds: the years 68 to 3871. `datetime` begins with the year 1."""

_AS_THEY_ARE: Final = ("time", "mode", "duration", "lag", "skipped", "woken_by", "problems", "plugins", "verdict")


def json_text(value: object) -> bytes:
    """Return compact JSON, which may contain NaN and Infinity. Lone surrogates become `?`."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain).encode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    if is_dataclass(value):
        return _fields_of(value)
    return f"<{type(value).__name__}>"  # a plugin's value of an unexpected type must not stop the recording


def _fields_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def cycle_line(report: Report, session: str, place: int, memory: Value = None) -> bytes:
    """Return a cycle as JSON.

    :param session: checksum of the line from `session_line`
    :param place: number of earlier cycles in the file
    :param memory: values that policies remember, in a group's first cycle
    """
    snapshot = report.snapshot
    guests, columns = snapshot.listed, snapshot.columns
    all_decisions: dict[int, tuple[int, Decision]] = {}

    def among(decision: Decision) -> int:
        return all_decisions.setdefault(id(decision), (len(all_decisions), decision))[0]

    for decision in report.decisions:
        among(decision)
    revisions = [
        {**_fields_of(revision), "before": among(revision.before), "after": None if revision.after is None else among(revision.after)}
        for revision in report.revisions
    ]
    outcomes = [{**_fields_of(outcome), "decision": among(outcome.decision)} for outcome in report.outcomes]
    considered = None if report.considered is None else [among(decision) for decision in report.considered]
    return json_text({
        "cycle": report.number,
        "session": session,
        "place": place,
        **{name: getattr(report, name) for name in _AS_THEY_ARE},
        "snapshot": {name: getattr(snapshot, name) for name in _Taken.model_fields},
        "host": snapshot.host,
        "guests": {name: [getattr(guest, name) for guest in guests] for name in _Guests.model_fields},
        "fields": columns,
        "unknown": {name: sorted(places) for name in columns if (places := columns.unknown(name))},
        "decided": len(report.decisions),
        "decisions": [decision for _, decision in all_decisions.values()],
        "considered": considered,
        "revisions": revisions,
        "outcomes": outcomes,
        "memory": memory,
    })  # fmt: skip


Moment: TypeAlias = Annotated[float, Field(ge=-FARTHEST, le=FARTHEST)]
Place: TypeAlias = NonNegativeInt


def checked(kind: type | tuple[type, ...], items: type | tuple[type, ...] = object) -> AfterValidator:
    """Return a validator for the types of a mapping's values, and of the items of its lists.

    The validator stops at the first error. pydantic would collect a gigabyte of errors.
    """

    def check(mapping: dict[str, Any]) -> dict[str, Any]:
        for name, value in mapping.items():
            if not isinstance(value, kind) or (isinstance(value, list) and not all(isinstance(item, items) for item in value)):
                raise ValueError(f"{printable(name)} has a value of an invalid type")
        return mapping

    return AfterValidator(check)


Item = TypeVar("Item")
Items: TypeAlias = Annotated[list[Item], Field(fail_fast=True)]
"""List whose validation stops at the first invalid item."""


class _Strict(BaseModel):
    # Recordings may be malicious, so no type is converted.

    model_config = ConfigDict(strict=True)


class _Taken(_Strict):
    number: int
    time: Moment
    monotonic: Moment


class _Host(_Strict):
    name: str
    fields: dict[str, Any]
    properties: dict[str, Any]


class _Guests(_Strict):
    id: Items[str]
    name: Items[str]
    incarnation: Items[str]
    properties: Items[dict[str, Any]]
    blocked: Items[Annotated[dict[str, Any], checked(str)]]


class _Decision(_Strict):
    entity: Entity
    control: str
    value: Any
    reason: str
    source: Source


class _Revision(_Strict):
    before: Place
    after: Place | None
    reason: str
    reviewer: str


class _Verdict(_Strict):
    conditions: Items[Condition]


class _Outcome(_Strict):
    decision: Place
    before: Any
    after: Any
    status: Status
    error: str


class _Cycle(_Strict):
    session: str
    place: int
    cycle: int
    time: Moment
    mode: str
    duration: Moment
    lag: Moment
    skipped: int
    woken_by: str
    snapshot: _Taken
    host: _Host
    guests: _Guests
    fields: Annotated[dict[str, Any], checked(list)]
    unknown: Annotated[dict[str, Any], checked(list, int)]
    decided: Place
    decisions: Items[_Decision]
    considered: Items[Place] | None
    revisions: Items[_Revision]
    outcomes: Items[_Outcome]
    problems: Annotated[tuple[Problem, ...], Field(fail_fast=True)]
    verdict: _Verdict | None
    memory: Any


@dataclass(frozen=True, slots=True)
class CycleRead:
    """Cycle as recorded.

    :param report: report without the state of plugins
    :param decisions: decisions of the report, followed by those of reviews and trials
    :param memory: values that policies remember; None except in a group's first cycle
    :param session: checksum of the line from `session_line`
    :param place: number of earlier cycles in the file
    """

    report: Report
    decisions: Sequence[Decision]
    memory: Value
    session: str
    place: int


def read_cycle(text: bytes) -> CycleRead:
    """Return the cycle in a line from `cycle_line`. Raise `Corrupt` if the line is invalid."""
    try:
        content = _Cycle.model_validate_json(text)
        decisions = [Decision(**dict(decision)) for decision in content.decisions]
        report = _report(content, decisions)
    except (ValueError, IndexError, RecursionError) as error:
        raise Corrupt(f"a cycle is invalid: {why_not(error)}") from error
    return CycleRead(report, decisions, content.memory, content.session, content.place)


def why_not(error: Exception) -> str:
    """Return an error, or the first of several validation errors, as text."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 200)
    return printable(str(error), 200)


def _report(content: _Cycle, decisions: Sequence[Decision]) -> Report:
    guests = _read_guests(content)
    if len(guests) != len(content.guests.id):
        raise ValueError("two guests have the same id")
    return Report(
        number=content.cycle,
        snapshot=Snapshot(Host(**dict(content.host)), guests, **dict(content.snapshot)),
        decisions=tuple(decisions[: content.decided]),
        revisions=tuple(
            Revision(
                decisions[revision.before],
                None if revision.after is None else decisions[revision.after],
                revision.reason,
                revision.reviewer,
            )
            for revision in content.revisions
        ),
        outcomes=tuple(Outcome(**{**dict(outcome), "decision": decisions[outcome.decision]}) for outcome in content.outcomes),
        considered=None if content.considered is None else tuple(decisions[item] for item in content.considered),
        plugins=(),
        verdict=None if content.verdict is None else Verdict(tuple(_read_condition(item) for item in content.verdict.conditions)),
        **{name: getattr(content, name) for name in _AS_THEY_ARE if name not in {"plugins", "verdict"}},
    )


def _read_condition(condition: Condition) -> Condition:
    return replace(condition, plugins=tuple(condition.plugins))


def _read_guests(content: _Cycle) -> dict[str, Guest]:
    listed, columns, unknown = content.guests, content.fields, content.unknown
    parts: tuple[Sequence[Any], ...] = (listed.id, listed.name, listed.properties, listed.blocked, listed.incarnation)
    if {*map(len, parts), *map(len, columns.values())} != {len(listed.id)}:
        raise ValueError("the numbers of values and of guests differ")
    rows = zip(*columns.values(), strict=True) if columns else [()] * len(listed.id)
    fields = [dict(zip(columns, row, strict=True)) for row in rows]
    for name, column in columns.items():
        if None in column:
            for place in {place for place, value in enumerate(column) if value is None} - set(unknown.get(name, ())):
                del fields[place][name]
    return {
        identity: Guest(identity, name, of, properties, blocked, incarnation)
        for of, (identity, name, properties, blocked, incarnation) in zip(fields, zip(*parts, strict=True), strict=True)
    }


MOST_DECLARED: Final = 4096
"""Maximum number of declared fields, and of declared controls."""

SESSION: Final = b'{"session":'


@dataclass(frozen=True, slots=True)
class RecordedSession:
    """Configuration, policies and declarations of several cycles.

    `load_config` accepts `configuration`, in which secrets are masked. `policies` are texts keyed by name.
    """

    version: str
    host: str
    configuration: Mapping[str, Value]
    policies: Mapping[str, str]
    fields: tuple[FieldSpec, ...]
    controls: tuple[ControlSpec, ...]


class _Session(_Strict):
    version: str
    host: str
    configuration: dict[str, Any]
    policies: Annotated[dict[str, Any], checked(str)]
    fields: Annotated[Items[tuple[str, Unit, Scope, str, str, str]], Field(max_length=MOST_DECLARED)]
    controls: Annotated[
        Items[tuple[str, Unit, Scope, str, str, FiniteFloat | None, FiniteFloat | None, Items[int]]], Field(max_length=MOST_DECLARED)
    ]


class _SessionLine(BaseModel):
    session: _Session


def session_line(session: RecordedSession) -> bytes:
    """Return a session as a line of JSON."""
    fields = [[f.name, f.unit, f.scope, f.description, f.source, f.reason] for f in session.fields]
    controls = [[c.name, c.unit, c.scope, c.description, c.field, c.minimum, c.maximum, list(c.choices)] for c in session.controls]
    names = ("version", "host", "configuration", "policies")
    return json_text({"session": {**{name: getattr(session, name) for name in names}, "fields": fields, "controls": controls}})


def read_session(text: bytes) -> RecordedSession:
    """Return the session in a line from `session_line`. Raise `Corrupt` if the line is invalid."""
    try:
        session = _SessionLine.model_validate_json(text).session
    except ValidationError as error:
        raise Corrupt(f"the configuration of these cycles is invalid: {why_not(error)}") from error
    fields = tuple(FieldSpec(*field[:5], reason=field[5]) for field in session.fields)
    controls = tuple(ControlSpec(*control) for control in session.controls)
    return RecordedSession(session.version, session.host, session.configuration, session.policies, fields, controls)
