"""One cycle as the body of a frame, and back: a `Report` in, the same `Report` out.

What is the same as in the key frame is not said again: a guest's name and properties, a field's values. Texts that come up again and
again (reasons, sources, controls) stand once in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

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
from mom_plugins_record.recording.columns import ABSENT, Allowance, Cell, ColumnReader, ColumnWriter, Corrupt

T = TypeVar("T")

_DICTIONARY = 32 << 10
"""Bytes that zlib can look back."""


@dataclass(frozen=True, slots=True)
class Key:
    """What later cycles are told apart from: the guests of a key frame in their order, and their fields in columns.

    `texts` is what zlib is told that a cycle's texts will repeat.
    """

    guests: Sequence[Guest]
    columns: Mapping[str, Sequence[Cell]]
    texts: bytes


ANY_CYCLE: Final = 16 << 10
CELLS_A_BYTE: Final = 32
CELLS_A_GUEST: Final = 64
"""Values that a cycle may have: so many at all, more for each byte that it is stored in, for each guest, and as many as its key has.
Guests that are all alike in 100 fields come to 20 a byte. A guest costs bytes, as it has an id of its own; decisions about all guests
and fields that did not change cost hardly any."""

FARTHEST: Final = 6e10
"""Seconds from the epoch to the year 3871: what lies farther away is no time, and cannot be shown as a date."""

NO_KEY = Key((), {}, b"")


class _Table:
    """Things, each said once: `add` gives its number."""

    def __init__(self) -> None:
        self.items: dict[Any, int] = {}

    def add(self, item: Any) -> int:
        return self.items.setdefault(item, len(self.items))


def write_cycle(report: Report, key: Key) -> tuple[bytes, Key]:
    """A cycle as bytes, and the key that it would be for the cycles after it.

    :param key: what is not said again; `NO_KEY` for a frame that stands by itself
    """
    snapshot = report.snapshot
    guests = list(snapshot.guests.values())
    texts, numbers = ColumnWriter(), ColumnWriter()
    places = _write_guests(guests, key, texts, numbers)
    # From here on it is the same in nearly all cycles, and stands at the end, where zlib looks back to.
    texts.json(
        [report.number, report.time, report.mode, report.duration, report.lag, report.skipped, report.woken_by, snapshot.monotonic,
         snapshot.time, snapshot.number, snapshot.host.name, snapshot.host.properties, snapshot.host.fields]
    )  # fmt: skip
    columns = _write_fields(guests, key, places, texts, numbers)
    _write_done(report, {guest.id: i for i, guest in enumerate(guests)}, texts, numbers)
    texts.json([_problem(problem) for problem in report.problems])
    texts.json([[p.name, p.state, dict(p.durations), p.calls, p.failures, p.last_error, p.retry_in] for p in report.plugins])
    texts.json(None if report.verdict is None else report.verdict.as_json())
    said = texts.joined()
    body = ColumnWriter()
    body.blob(said)
    return body.joined() + numbers.joined(), Key(guests, columns, said[-_DICTIONARY:])


def _write_guests(guests: Sequence[Guest], key: Key, texts: ColumnWriter, numbers: ColumnWriter) -> list[int] | None:
    """Who is there: nothing at all when these are the key's guests. Returns each one's place in the key from 1, or 0; None: the same."""
    if len(guests) == len(key.guests) and all(a.id == b.id for a, b in zip(guests, key.guests, strict=True)):
        texts.json(None)
        same: list[int] | None = None
        before: Sequence[Guest | None] = key.guests
    else:
        known = {guest.id: i for i, guest in enumerate(key.guests, 1)}
        same = [known.get(guest.id, 0) for guest in guests]
        texts.json([guest.id for guest, place in zip(guests, same, strict=True) if not place])
        numbers.number(len(guests))
        numbers.column(same)
        before = [key.guests[place - 1] if place else None for place in same]
    changed = {
        i: [new.name, new.properties, new.blocked, new.incarnation]
        for i, (new, old) in enumerate(zip(guests, before, strict=True))
        if old is None or _differs(new, old)
    }
    texts.json(changed)
    return same


def _differs(new: Guest, old: Guest) -> bool:
    return new.properties != old.properties or new.blocked != old.blocked or new.name != old.name or new.incarnation != old.incarnation


def _write_fields(
    guests: Sequence[Guest], key: Key, places: list[int] | None, texts: ColumnWriter, numbers: ColumnWriter
) -> dict[str, Sequence[Cell]]:
    names: dict[str, None] = dict.fromkeys(name for name in key.columns)
    for guest in guests:
        if not guest.fields.keys() <= names.keys():
            names.update(dict.fromkeys(guest.fields))
    texts.json(list(names))
    fields = [guest.fields for guest in guests]
    columns: dict[str, Sequence[Cell]] = {}
    for name in names:
        values: list[Cell] = [f.get(name, ABSENT) for f in fields]
        columns[name] = values
        numbers.column(values, _base(key, name, places))
    return columns


def _base(key: Key, name: str, places: list[int] | None) -> Sequence[Cell] | None:
    column = key.columns.get(name)
    if column is None or places is None:
        return column
    return [column[place - 1] if place else ABSENT for place in places]


def _write_done(report: Report, places: Mapping[str, int], texts: ColumnWriter, numbers: ColumnWriter) -> None:
    """Decisions, revisions, outcomes. An entity is its guest's place from 1, 0 the host, and from beyond all guests one of a table."""
    strangers, words = _Table(), _Table()

    def place(entity: Entity) -> int:
        if entity.id == HOST_ID and entity.scope is Scope.HOST and entity.name == report.snapshot.host.name:
            return 0
        i = places.get(entity.id)
        if i is not None and report.snapshot.guests[entity.id].name == entity.name:
            return 1 + i
        return 1 + len(places) + strangers.add((entity.scope, entity.id, entity.name))

    all_decisions: dict[int, tuple[int, Decision]] = {}

    def decided(decision: Decision) -> int:
        return all_decisions.setdefault(id(decision), (len(all_decisions), decision))[0]

    for decision in report.decisions:
        decided(decision)
    considered = [decided(decision) for decision in report.considered or ()]
    revisions = [
        (decided(revision.before), 0 if revision.after is None else 1 + decided(revision.after), words.add(revision.reason),
         words.add(revision.reviewer))
        for revision in report.revisions
    ]  # fmt: skip
    outcomes = [(decided(o.decision), words.add(o.status), words.add(o.error)) for o in report.outcomes]
    decisions = [decision for _, decision in all_decisions.values()]
    sources = [words.add((d.source.name, d.source.line, d.source.column)) for d in decisions]
    made = [(place(d.entity), words.add(d.control), words.add(d.reason), source) for d, source in zip(decisions, sources, strict=True)]
    texts.json(list(words.items))
    texts.json(list(strangers.items))
    for number in (len(report.decisions), len(decisions), len(revisions), len(outcomes), len(considered)):
        numbers.number(number)
    numbers.number(report.considered is not None)
    numbers.column(considered)
    for table, width in ((made, 4), (revisions, 4), (outcomes, 3)):
        for column in zip(*table, strict=True) if table else [()] * width:
            numbers.column(list(column))
    numbers.column([d.value for d in decisions])
    befores: list[Cell] = [o.before for o in report.outcomes]
    numbers.column(befores)
    numbers.column([o.after for o in report.outcomes], befores)


def _problem(problem: Problem) -> list[object]:
    entity = problem.entity
    return [*problem.source, problem.message, entity and [entity.scope, entity.id, entity.name], problem.severity, problem.hint]


# --- and back -------------------------------------------------------------------------------------------------------------------


def allowed_in(stored: int) -> Allowance:
    """How many values there may be in so many bytes of a file."""
    return Allowance(ANY_CYCLE + CELLS_A_BYTE * stored)


def read_cycle(body: bytes, key: Key, stored: int | None = None) -> tuple[Report, Key]:
    """What `write_cycle` wrote with the same key. Raises `Corrupt`.

    :param stored: in how many bytes of a file the cycle stands (None: as they are): no more is made of them than a cycle can hold
    """
    allowance = allowed_in(len(body) if stored is None else stored)
    try:
        numbers = ColumnReader(body, allowance)
        said = numbers.blob()
        return _read_cycle(ColumnReader(said, allowance), numbers, key, said, allowance)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise Corrupt(f"a cycle does not make sense: {printable(str(error), 200)}") from error


def _read_cycle(texts: ColumnReader, numbers: ColumnReader, key: Key, said: bytes, allowance: Allowance) -> tuple[Report, Key]:
    allowance.more(len(key.guests) * len(key.columns))
    guests, places = _read_guests(texts, numbers, key)
    allowance.more(CELLS_A_GUEST * len(guests))
    head: Any = texts.json()
    number, time, mode, duration, lag, skipped, woken_by, monotonic, taken, taken_number, host_name, properties, host = head
    _check(int, number, skipped, taken_number)
    _check(str, mode, woken_by, host_name)
    _check(dict, properties, host)
    if not all(isinstance(moment, int | float) and abs(moment) <= FARTHEST for moment in (time, duration, lag, monotonic, taken)):
        raise Corrupt("there is something else where times belong")
    columns: dict[str, Sequence[Cell]] = {}
    for name in _texts(texts.json()):
        columns[name] = numbers.column(len(guests), _base(key, name, places))
    pairs = list(columns.items())
    complete = [
        Guest(guest.id, guest.name, {n: c[i] for n, c in pairs if c[i] is not ABSENT}, guest.properties, guest.blocked, guest.incarnation)  # type: ignore[misc]  # what is absent is left out
        for i, guest in enumerate(guests)
    ]
    snapshot = Snapshot(
        Host(host_name, host, properties),
        {guest.id: guest for guest in complete},
        taken,
        monotonic,
        taken_number,
    )
    decisions, revisions, outcomes, considered = _read_done(texts, numbers, snapshot, complete)
    problems = tuple(_read_problem(item) for item in _list(texts.json()))
    plugins = tuple(
        PluginReport(name, PluginState(state), durations, calls, failures, last_error, retry_in)
        for name, state, durations, calls, failures, last_error, retry_in in _list(texts.json())
    )
    verdict = None if texts.ended else _read_verdict(texts.json())
    lasted = (duration, lag, skipped, woken_by)
    report = Report(number, time, mode, snapshot, decisions, revisions, outcomes, problems, plugins, *lasted, considered, verdict)
    return report, Key(guests, columns, said[-_DICTIONARY:])


def _read_guests(texts: ColumnReader, numbers: ColumnReader, key: Key) -> tuple[list[Guest], list[int] | None]:
    new = texts.json()
    places: list[int] | None = None
    if new is None:
        found: list[Guest | None] = list(key.guests)
        identities = [guest.id for guest in key.guests]
    else:
        fresh = _texts(new)
        count = numbers.number()
        if count > len(key.guests) + len(fresh):
            raise Corrupt(f"it has {count} guests, and names {len(key.guests) + len(fresh)}")
        places = _whole(numbers.column(count))
        found = [_guest_at(place, key) for place in places]
        if found.count(None) != len(fresh):
            raise Corrupt("it has another number of new guests than it names")
        unnamed = iter(fresh)
        identities = [next(unnamed) if guest is None else guest.id for guest in found]
        if len(set(identities)) != count:
            raise Corrupt("two of its guests have one id")
    changed: Any = texts.json()
    for index, (name, properties, blocked, incarnation) in changed.items():
        i = int(index)
        _check(dict, properties, blocked)
        _check(str, name, incarnation, *blocked.values())
        found[i] = Guest(identities[i], name, properties=properties, blocked=blocked, incarnation=incarnation)
    guests = [guest for guest in found if guest is not None]  # those of the key, and those that have changed since
    if len(guests) != len(found):
        raise Corrupt("a guest has no name")
    return guests, places


def _guest_at(place: int, key: Key) -> Guest | None:
    """The key's guest at that place, from 1; None for 0: a new one."""
    if place < 0:
        raise Corrupt("a guest stands before all others")
    return key.guests[place - 1] if place else None


def _read_done(
    texts: ColumnReader, numbers: ColumnReader, snapshot: Snapshot, guests: Sequence[Guest]
) -> tuple[tuple[Decision, ...], tuple[Revision, ...], tuple[Outcome, ...], tuple[Decision, ...] | None]:
    words: Any = texts.json()
    strangers = [_entity(item) for item in _list(texts.json())]
    wanted, count, revised, done, tried = (numbers.number() for _ in range(5))
    on_trial = bool(numbers.number())
    considered = _whole(numbers.column(tried))
    places, controls, reasons, sources = (_whole(numbers.column(count)) for _ in range(4))
    befores, afters, whys, reviewers = (_whole(numbers.column(revised)) for _ in range(4))
    decided, states, errors = (_whole(numbers.column(done)) for _ in range(3))
    values = _values(numbers.column(count))
    found = numbers.column(done)
    left = _values(numbers.column(done, found))

    def entity(place: int) -> Entity:
        if place == 0:
            return snapshot.host.entity
        return guests[place - 1].entity if place <= len(guests) else strangers[place - 1 - len(guests)]

    for number in {*controls, *reasons, *whys, *reviewers, *states, *errors}:
        _check(str, words[number])
    told = {number: _source(words[number]) for number in set(sources)}
    decisions = [
        Decision(entity(place), words[control], value, words[reason], told[source])
        for place, control, value, reason, source in zip(places, controls, values, reasons, sources, strict=True)
    ]
    revisions = tuple(
        Revision(decisions[before], decisions[after - 1] if after else None, words[why], words[reviewer])
        for before, after, why, reviewer in zip(befores, afters, whys, reviewers, strict=True)
    )
    outcomes = tuple(
        Outcome(decisions[decision], before, after, Status(words[state]), words[error])
        for decision, before, after, state, error in zip(decided, _values(found), left, states, errors, strict=True)
    )
    return tuple(decisions[:wanted]), revisions, outcomes, tuple(decisions[i] for i in considered) if on_trial else None


def _read_problem(item: Any) -> Problem:
    name, line, column, message, entity, severity, hint = item
    _check(str, message, hint)
    return Problem(_source((name, line, column)), message, None if entity is None else _entity(entity), Severity(severity), hint)


def _read_verdict(content: Any) -> Verdict | None:
    if content is None:
        return None
    verdict = Verdict.from_json(content)
    if not all(abs(alert.since) <= FARTHEST and 0 <= alert.lasted <= FARTHEST for alert in verdict.alerts):
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


def _of(kind: type[T], what: str) -> Callable[[Sequence[object]], list[T]]:
    def checked(values: Sequence[object]) -> list[T]:
        found = [value for value in values if isinstance(value, kind)]
        if len(found) != len(values):
            raise Corrupt(f"there is something else where {what} belong")
        return found

    return checked


_whole = _of(int, "numbers")


def _texts(value: object) -> list[str]:
    return _of(str, "texts")(_list(value))


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise Corrupt("there is no list where one belongs")
    return value


def _values(cells: Sequence[Cell]) -> list[Value]:
    found = [cell for cell in cells if cell is not ABSENT]
    if len(found) != len(cells):
        raise Corrupt("a value is absent where one belongs")
    return found
