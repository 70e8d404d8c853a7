"""One cycle as a record of JSON, and back: a `Report` in, the same `Report` out.

What guests tell stands by field: a list with a value for each guest, in their order. A record that is no key says only what is not as
in its key; docs/recordings.md tells what stands where.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeAlias

from mom_core import (
    HOST_ID,
    Decision,
    Entity,
    Guest,
    Host,
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
    Value,
    Verdict,
    printable,
)
from mom_plugins_record.recording.frames import Dictionary
from mom_plugins_record.recording.json_text import Corrupt, checked_json, json_bytes

FARTHEST: Final = 6e10
"""Seconds from the epoch to the year 3871: what lies farther away is no time, and cannot be shown as a date."""

MOST_BUILT: Final = 4 << 20
"""Fields of all guests that one cycle may have, those of its key included: a few bytes can say that they are as they were."""

_ABSENT: Final[Any] = object()

Reasons: TypeAlias = Mapping[str, Sequence[str | None]]
"""Why policies decided as they did, in words: by control a text for each guest in their order. Empty: nothing is known; None: not asked."""


@dataclass(frozen=True, slots=True)
class Key:
    """What later cycles are told apart from: the guests of a key frame in their order, and their fields in columns.

    `absent` are the places of guests that do not have a field. `dictionary` is the record, which zstd is told that theirs will repeat.
    """

    guests: Sequence[Guest] = ()
    columns: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    absent: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dictionary: Dictionary | None = None


NO_KEY: Final = Key()


def write_cycle(report: Report, key: Key, reasons: Reasons | None = None) -> tuple[bytes, Key]:
    """A cycle as bytes, and the key that it would be for the cycles after it.

    :param key: what is not said again; `NO_KEY` for a frame that stands by itself
    :param reasons: why policies decided so, where that was asked
    """
    snapshot = report.snapshot
    guests, columns = snapshot.listed, snapshot.columns
    absent = {name: places for name in columns if (places := columns.absent(name))}
    record: dict[str, object] = {
        "cycle": report.number,
        "time": report.time,
        "mode": report.mode,
        "duration": report.duration,
        "lag": report.lag,
        "skipped": report.skipped,
        "woken_by": report.woken_by,
        "snapshot": {"number": snapshot.number, "time": snapshot.time, "monotonic": snapshot.monotonic},
        "host": {"name": snapshot.host.name, "properties": snapshot.host.properties, "fields": snapshot.host.fields},
    }
    if key is not NO_KEY and len(guests) == len(key.guests) and all(map(_same, guests, key.guests)):
        changed = {
            name
            for name, column in columns.items()
            if name not in key.columns or not _alike(column, key.columns[name]) or absent.get(name) != key.absent.get(name)
        }
        gone = [name for name in key.columns if name not in columns]
        if gone:
            record["gone"] = gone
    else:
        changed = set(columns)
        record["guests"] = {
            "id": [guest.id for guest in guests],
            "name": [guest.name for guest in guests],
            "incarnation": [guest.incarnation for guest in guests],
            "properties": [guest.properties for guest in guests],
            "blocked": [guest.blocked for guest in guests],
        }
    record["fields"] = {name: column for name, column in columns.items() if name in changed}
    record["absent"] = {name: places for name, places in absent.items() if name in changed}
    record |= _done(report)
    if reasons is not None:
        record["reasons"] = reasons
    record["problems"] = [_problem(problem) for problem in report.problems]
    record["plugins"] = [
        {
            "name": p.name,
            "state": p.state,
            "durations": p.durations,
            "calls": p.calls,
            "failures": p.failures,
            "last_error": p.last_error,
            "retry_in": p.retry_in,
        }
        for p in report.plugins
    ]
    record["verdict"] = None if report.verdict is None else report.verdict.as_json()
    body = json_bytes(record) + b"\n"
    return body, Key(guests, columns, absent, Dictionary(body))


def _same(new: Guest, old: Guest) -> bool:
    return (
        new.id == old.id
        and new.properties == old.properties
        and new.blocked == old.blocked
        and new.name == old.name
        and new.incarnation == old.incarnation
    )


def _alike(column: Sequence[Value], other: Sequence[Value]) -> bool:
    """Whether they are the same to the bit: 1, 1.0 and True are equal, as are both zeros."""
    if column != other:
        return False
    kinds = set(map(type, column))
    if kinds != set(map(type, other)):
        return False
    if kinds == {float}:
        bits, before = (array("d", [one for one in values if isinstance(one, float)]).tobytes() for values in (column, other))
        return bits == before
    return kinds <= {int} or kinds <= {str} or repr(column) == repr(other)


def _done(report: Report) -> dict[str, object]:
    """Decisions, those of the cycle first; what reviews made of them, what was tried, and what came of them name them by their place."""
    all_decisions: dict[int, tuple[int, Decision]] = {}

    def place(decision: Decision) -> int:
        return all_decisions.setdefault(id(decision), (len(all_decisions), decision))[0]

    for decision in report.decisions:
        place(decision)
    found: dict[str, object] = {"decided": len(report.decisions)}
    if report.considered is not None:
        found["considered"] = [place(decision) for decision in report.considered]
    revised, done = report.revisions, report.outcomes
    if revised:
        found["revisions"] = {
            "before": [place(one.before) for one in revised],
            "after": [None if one.after is None else place(one.after) for one in revised],
            "reason": [one.reason for one in revised],
            "reviewer": [one.reviewer for one in revised],
        }
    if done:
        found["outcomes"] = {
            "decision": [place(one.decision) for one in done],
            "before": [one.before for one in done],
            "after": [one.after for one in done],
            "status": [one.status for one in done],
            "error": [one.error for one in done],
        }
    decisions = [decision for _, decision in all_decisions.values()]
    if decisions:
        guests, host = report.snapshot.guests, report.snapshot.host.entity
        found["decisions"] = {
            "entity": [_entity_text(one.entity, guests, host) for one in decisions],
            "control": [one.control for one in decisions],
            "value": [one.value for one in decisions],
            "reason": [one.reason for one in decisions],
            "source": [one.source for one in decisions],
        }
    return found


def _entity_text(entity: Entity, guests: Mapping[str, Guest], host: Entity) -> object:
    """A guest that is there is its id; the host is `host`; any other is said in full."""
    guest = guests.get(entity.id)
    if guest is not None and entity.id != HOST_ID and entity.scope is Scope.GUEST and guest.name == entity.name:
        return entity.id
    return HOST_ID if entity == host else [entity.scope, entity.id, entity.name]


def _problem(problem: Problem) -> dict[str, object]:
    entity = problem.entity
    return {
        "source": problem.source,
        "message": problem.message,
        "entity": entity and [entity.scope, entity.id, entity.name],
        "severity": problem.severity,
        "hint": problem.hint,
    }


# --- and back -------------------------------------------------------------------------------------------------------------------


def read_record(body: bytes, key: Key, stored: int | None = None) -> tuple[CycleRecord, Key]:
    """What `write_cycle` wrote with the same key, and the key that it is for others. Raises `Corrupt`.

    :param stored: in how many bytes of a file the cycle stands (None: as they are): no more is made of them than a cycle can hold
    """
    with _sense():
        record = _read_record(body, key, len(body) if stored is None else stored)
        if not isinstance(record.content["time"], int | float) or abs(record.time) > FARTHEST:
            raise Corrupt("there is something else where times belong")
        return record, Key(record.guests, record.columns, record.absent, Dictionary(body))


@contextmanager
def _sense() -> Iterator[None]:
    """Whatever a record's values come to that no recorder has written is `Corrupt`."""
    try:
        yield
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise Corrupt(f"a cycle does not make sense: {printable(str(error), 200)}") from error


@dataclass(frozen=True)
class CycleRecord:
    """A cycle as it stands in JSON, with what it leaves to its key."""

    content: Mapping[str, Any]
    guests: Sequence[Guest]
    columns: Mapping[str, Sequence[Value]]
    absent: Mapping[str, Sequence[int]]

    @property
    def time(self) -> float:
        """When the cycle began, in seconds since the epoch."""
        return float(self.content["time"])

    @property
    def reasons(self) -> Reasons | None:
        """Why policies decided so, in words; None: it was not asked. Raises `Corrupt`."""
        with _sense():
            listed: Reasons | None = self.content.get("reasons")
            for texts in (listed or {}).values():
                _check(list, texts)
                _check(str, *(text for text in texts if text is not None))
                if len(texts) != len(self.guests):
                    raise Corrupt("there is another number of reasons than there are guests")
            return listed

    @cached_property
    def report(self) -> Report:
        """The cycle that `write_cycle` was given. Raises `Corrupt`."""
        with _sense():
            return _report(self)


def _read_record(body: bytes, key: Key, stored: int) -> CycleRecord:
    content = checked_json(body, stored)
    _check(dict, content)
    _check(dict, content["fields"], content["absent"])
    columns: dict[str, Sequence[Value]] = {}
    absent: dict[str, Sequence[int]] = {}
    if "guests" in content:
        guests = _guests(content["guests"])
    elif key is NO_KEY:
        raise Corrupt("it does not say which guests there are")
    else:
        guests = key.guests
        columns, absent = dict(key.columns), dict(key.absent)
        for name in content.get("gone", ()):
            del columns[name]
            absent.pop(name, None)
    for name, column in content["fields"].items():
        _check(list, column)
        if len(column) != len(guests):
            raise Corrupt("a field has another number of values than there are guests")
        columns[name] = column
        absent.pop(name, None)
    for name, places in content["absent"].items():
        _check(list, places)
        _check(int, *places)
        absent[name] = places
    if len(columns) * len(guests) > MOST_BUILT:
        raise Corrupt("its guests have more fields than can be held")
    return CycleRecord(content, guests, columns, absent)


def _guests(listed: Any) -> Sequence[Guest]:
    identities, names, incarnations = listed["id"], listed["name"], listed["incarnation"]
    _check(str, *identities, *names, *incarnations)
    if len(set(identities)) != len(identities):
        raise Corrupt("two of its guests have one id")
    guests = []
    for identity, name, incarnation, properties, blocked in zip(
        identities, names, incarnations, listed["properties"], listed["blocked"], strict=True
    ):
        _check(dict, properties, blocked)
        _check(str, *blocked.values())
        guests.append(Guest(identity, name, properties=properties, blocked=blocked, incarnation=incarnation))
    return guests


def _report(record: CycleRecord) -> Report:
    content, columns = record.content, record.columns
    number, time, mode, duration, lag, skipped, woken_by = (
        content[name] for name in ("cycle", "time", "mode", "duration", "lag", "skipped", "woken_by")
    )
    taken, host = content["snapshot"], content["host"]
    _check(int, number, skipped, taken["number"])
    _check(str, mode, woken_by, host["name"])
    _check(dict, host["properties"], host["fields"])
    moments = (time, duration, lag, taken["monotonic"], taken["time"])
    if not all(isinstance(moment, int | float) and abs(moment) <= FARTHEST for moment in moments):
        raise Corrupt("there is something else where times belong")
    fields = _by_guest(len(record.guests), columns, record.absent)
    guests = {
        guest.id: Guest(guest.id, guest.name, of, guest.properties, guest.blocked, guest.incarnation)
        for guest, of in zip(record.guests, fields, strict=True)
    }
    snapshot = Snapshot(Host(host["name"], host["fields"], host["properties"]), guests, taken["time"], taken["monotonic"], taken["number"])
    decisions = _decisions(content.get("decisions"), snapshot)
    considered = content.get("considered")
    return Report(
        number,
        time,
        mode,
        snapshot,
        tuple(decisions[: _place(content["decided"])]),
        tuple(_revisions(content.get("revisions"), decisions)),
        tuple(_outcomes(content.get("outcomes"), decisions)),
        tuple(_read_problem(item) for item in content["problems"]),
        tuple(_read_plugin(item) for item in content["plugins"]),
        duration,
        lag,
        skipped,
        woken_by,
        None if considered is None else tuple(decisions[_place(one)] for one in considered),
        _read_verdict(content["verdict"]),
    )


def _by_guest(count: int, columns: Mapping[str, Sequence[Value]], absent: Mapping[str, Sequence[int]]) -> Iterable[Mapping[str, Value]]:
    """Each guest's fields. Raises `IndexError` for a guest that is not there."""
    if not columns:
        return [{} for _ in range(count)]
    if absent:
        whole = dict(columns)
        for name, places in absent.items():
            column = list(whole[name])
            for place in places:
                column[place] = _ABSENT
            whole[name] = column
        return [
            {name: value for name, value in zip(whole, row, strict=True) if value is not _ABSENT}
            for row in zip(*whole.values(), strict=True)
        ]
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _place(value: object) -> int:
    """A place in a list."""
    if not isinstance(value, int) or value < 0:
        raise Corrupt("there is something else where a place belongs")
    return value


def _decisions(listed: Any, snapshot: Snapshot) -> Sequence[Decision]:
    if listed is None:
        return ()
    controls, reasons = listed["control"], listed["reason"]
    _check(str, *controls, *reasons)
    host = snapshot.host.entity

    def entity(said: Any) -> Entity:
        if isinstance(said, str):
            return host if said == HOST_ID else snapshot.guests[said].entity
        return _entity(said)

    return [
        Decision(entity(said), control, value, reason, _source(source))
        for said, control, value, reason, source in zip(listed["entity"], controls, listed["value"], reasons, listed["source"], strict=True)
    ]


def _revisions(listed: Any, decisions: Sequence[Decision]) -> Iterable[Revision]:
    if listed is None:
        return
    _check(str, *listed["reason"], *listed["reviewer"])
    for before, after, reason, reviewer in zip(listed["before"], listed["after"], listed["reason"], listed["reviewer"], strict=True):
        yield Revision(decisions[_place(before)], None if after is None else decisions[_place(after)], reason, reviewer)


def _outcomes(listed: Any, decisions: Sequence[Decision]) -> Iterable[Outcome]:
    if listed is None:
        return
    _check(str, *listed["error"])
    for decision, before, after, status, error in zip(
        listed["decision"], listed["before"], listed["after"], listed["status"], listed["error"], strict=True
    ):
        yield Outcome(decisions[_place(decision)], before, after, Status(status), error)


def _read_problem(item: Any) -> Problem:
    entity = item["entity"]
    _check(str, item["message"], item["hint"])
    return Problem(
        _source(item["source"]), item["message"], None if entity is None else _entity(entity), Severity(item["severity"]), item["hint"]
    )


def _read_plugin(item: Any) -> PluginReport:
    return PluginReport(
        item["name"], PluginState(item["state"]), item["durations"], item["calls"], item["failures"], item["last_error"], item["retry_in"]
    )


def _read_verdict(content: Any) -> Verdict | None:
    if content is None:
        return None
    verdict = Verdict.from_json(content)
    if not all(abs(condition.since) <= FARTHEST and 0 <= condition.lasted <= FARTHEST for condition in verdict.conditions):
        raise Corrupt("there is something else where times belong")
    return verdict


def _source(item: Any) -> Source:
    name, line, column = item
    _check(str, name)
    _check(int, line, column)
    return Source(name, line, column)


def _entity(item: Any) -> Entity:
    scope, identity, name = item
    _check(str, identity, name)
    return Entity(Scope(scope), identity, name)


def _check(kind: type, *values: object) -> None:
    """What the checksums do not say: that it was written by a recorder, and not by a program that means harm."""
    if not all(isinstance(value, kind) for value in values):
        raise Corrupt(f"there is something else where {kind.__name__} belongs")
