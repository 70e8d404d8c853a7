"""Looks for a snapshot in which a policy leaves its bounds: at random, at what the policy compares with, and uphill from there."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import NamedTuple

from mom_core import ConfigError, Scope, Snapshot, Value
from mom_core.testing import snapshot
from mom_plugins_policy.language.syntax import Form, FormKind
from mom_plugins_policy.language.words.vocabulary import FINITE, FLOAT, LARGEST, LIST, STRING, Shape, Vocabulary
from mom_plugins_policy.prove.attempts import Attempt, Attempts, Violation
from mom_plugins_policy.symbols.terms import Term, Terms, scope_of
from mom_plugins_policy.tools.snapshots import as_json, made_snapshot

_GUESTS = ("vm1", "vm2", "vm3")
_SCALES = (1 << 20, 1 << 23)
"""Numbers to be parts of, on hosts such as there are: KiB of a small and a large guest. Others have numbers of any magnitude."""
_PARTS = (0, 0.02, 0.1, 0.25, 0.5, 0.8, 1, 1, 4)

_KEPT = 16  # candidates from which others are made
_SHRINKING = 1.0  # seconds

Fields = dict[str, Value]
Place = tuple[int, str, str]
"""Where a value is: the sample (0 is the newest), the entity, the field."""
Read = tuple[Scope, str]
"""A field that the policy or the bounds read."""


class Reads(NamedTuple):
    """What a policy and a bound read of a snapshot: fields, and whether older samples and the names of guests matter."""

    fields: frozenset[Read]
    averages: bool
    names: bool


@dataclass(slots=True)
class Candidate:
    """A snapshot as plain values: fields by entity, `host` among them; and older values, oldest first."""

    entities: dict[str, Fields]
    older: list[dict[str, Fields]] = field(default_factory=list)

    def copy(self) -> Candidate:
        """The same, to be changed."""
        older = [{name: dict(fields) for name, fields in sample.items()} for sample in self.older]
        return Candidate({name: dict(fields) for name, fields in self.entities.items()}, older)

    def snapshot(self) -> Snapshot:
        """As the evaluator takes it."""
        return snapshot(
            self.entities["host"],
            _guests(self.entities),
            {"host": {"interval": 5.0}},
            [{"host": sample["host"], "guests": _guests(sample)} for sample in self.older],
        )

    def at(self, place: Place) -> Value:
        """The value at a place; None where there is none."""
        number, entity, name = place
        return (self.entities, *self.older)[number].get(entity, {}).get(name) if number <= len(self.older) else None

    def places(self) -> Iterator[tuple[dict[str, Fields], str, str]]:
        """All values: the sample, the entity and the field."""
        for sample in (self.entities, *self.older):
            for entity, fields in sample.items():
                for name in fields:
                    yield sample, entity, name


def _guests(sample: Mapping[str, Fields]) -> dict[str, Fields]:
    return {name: fields for name, fields in sample.items() if name != "host"}


class ViolationSearch:
    """A search for one violation.

    :param reads: what the policy and the bound read
    :param forms: the policy's forms, whose numbers and strings are tried as values
    """

    def __init__(self, trial: Attempts, vocabulary: Vocabulary, reads: Reads, forms: Iterable[Form]) -> None:
        self.trial = trial
        self.averages = reads.averages
        self.shapes = {read: vocabulary.shape(*read) for read in sorted(reads.fields)}
        self.attempts = 0
        self._random = random.Random(1)  # noqa: S311  # the same search each time
        self._numbers, self._strings = _literals(forms)
        self._names = [text for text in self._strings if reads.names and text.isprintable() and 0 < len(text) < 60 and text != "host"]
        self._pool: list[tuple[float, int, Candidate]] = []
        self._scale = 0

    def run(self, until: float, points: Sequence[Mapping[Term, Fraction | None]] = ()) -> tuple[Snapshot, Violation] | None:
        """A snapshot of which the policy makes a decision that is out of bounds, as small as it could be made; None if none was found.

        :param until: when to give up, by this thread's CPU time
        :param points: values of terms from which to start
        """
        for made in self._candidates(points):
            if time.thread_time() > until:
                return None
            found = self._tried(made)
            if found.violation is not None:
                return self._reproduced(self._shrunk(made, min(until, time.thread_time()) + _SHRINKING))
        return None

    def _tried(self, candidate: Candidate) -> Attempt:
        self.attempts += 1
        attempt = self.trial.attempt(candidate.snapshot())
        if math.isfinite(attempt.distance):
            self._pool.append((attempt.distance, self.attempts, candidate))
            if len(self._pool) > 2 * _KEPT:
                self._pool = sorted(self._pool)[:_KEPT]
        return attempt

    def _candidates(self, points: Sequence[Mapping[Term, Fraction | None]]) -> Iterator[Candidate]:
        choose = self._random
        for point in points:
            for _ in range(8):
                yield self._from_point(point)
        while True:
            if self._pool and choose.random() < 0.7:
                yield self._mutated(choose.choice(self._pool)[2])
            elif points and choose.random() < 0.6:
                yield self._mutated(self._from_point(choose.choice(points)))
            else:
                yield self._random_candidate()

    # --- making candidates -----------------------------------------------------------------------------------------------------------

    def _guests(self) -> list[str]:
        """Names of one to three guests, of those that the policy may compare names with."""
        choose = self._random
        names = list(_GUESTS[: choose.choice((1, 1, 2, 3))])
        if self._names and choose.random() < 0.7:
            names[0] = choose.choice(self._names)
        return list(dict.fromkeys(names))

    def _random_candidate(self) -> Candidate:
        choose = self._random
        self._scale = choose.choice((0, *_SCALES))
        made = Candidate({name: {} for name in ["host", *self._guests()]})
        missing = choose.choice((0.0, 0.0, 0.05, 0.3))
        self._fill(made, missing)
        self._scale = 0
        return made

    def _fill(self, made: Candidate, missing: float) -> None:
        """Give every field that has none a value; and older samples, if they matter."""
        choose = self._random
        for entity, fields in made.entities.items():
            for scope, name in self.shapes:
                if (scope is Scope.HOST) == (entity == "host") and name not in fields and choose.random() >= missing:
                    fields[name] = self._value(made, entity, name)
        if self.averages and not made.older:
            for _ in range(choose.choice((0, 1, 2))):
                made.older.append({name: dict(fields) for name, fields in made.entities.items()})
                for fields in made.older[-1].values():
                    for name in fields:
                        if choose.random() < 0.5:
                            fields[name] = self._value(made, "host" if fields is made.older[-1]["host"] else "guest", name)
        self._order(made)

    def _from_point(self, point: Mapping[Term, Fraction | None]) -> Candidate:
        choose = self._random
        guests = self._guests()
        tracked = choose.choice(guests)
        others = [name for name in guests if name != tracked] or [tracked]
        made = Candidate({name: {} for name in ["host", *guests]})
        for term, value in point.items():
            if term.op != "field" or not isinstance(term.value, str):
                continue
            read = (scope_of(term.args[0]), term.value)
            if read in self.shapes:
                owner = "host" if term.args[0].op == "host" else tracked if term.args[0].value == 0 else choose.choice(others)
                if value is None:
                    made.entities[owner][term.value] = None
                else:
                    near = choose.choice((math.floor, math.ceil))(value) if not self.shapes[read].types & FLOAT else float(value)
                    made.entities[owner][term.value] = near
        self._fill(made, choose.choice((0.0, 0.3, 0.7)))
        return made

    def _mutated(self, candidate: Candidate) -> Candidate:
        choose = self._random
        made = candidate.copy()
        places = list(made.places())
        for _ in range(choose.choice((1, 1, 2, 3))):
            if not places:
                break
            sample, entity, name = choose.choice(places)
            how = choose.random()
            value = sample[entity].get(name)
            if how < 0.05:
                sample[entity].pop(name, None)
            elif how < 0.5 and isinstance(value, int | float) and not isinstance(value, bool):
                sample[entity][name] = self._fitting(entity, name, self._nudged(value))
            else:
                sample[entity][name] = self._value(made, entity, name)
        new = next((name for name in _GUESTS if name not in made.entities), None)
        if new is not None and choose.random() < 0.1:
            made.entities[new] = dict(next(fields for entity, fields in made.entities.items() if entity != "host"))
        self._order(made)
        return made

    def _nudged(self, value: float) -> float:
        choose = self._random
        return choose.choice(
            (value + 1, value - 1, value * 2, value / 2, value * choose.uniform(0.8, 1.25), value + choose.choice((-1, 1)) * self._size())
        )

    def _size(self) -> float:
        """A number of any magnitude."""
        return math.exp(self._random.uniform(0.0, math.log(LARGEST) * self._random.choice((0.2, 0.6, 0.8, 1.0))))

    def _value(self, made: Candidate, entity: str, name: str) -> Value:
        choose = self._random
        shape = self._shape(entity, name)
        if shape is None or not shape.types & FINITE:
            if shape is not None and shape.types & STRING:
                return choose.choice(self._strings)
            return [] if shape is not None and shape.types & LIST and choose.random() < 0.3 else None
        how = choose.random()
        if how < 0.1:
            return None
        if self._scale:
            whole = not shape.types & FLOAT
            return self._fitting(entity, name, self._scale * choose.choice(_PARTS) if whole else choose.choice((*_PARTS, 2, 5, 60)))
        if how < 0.25:
            number: float = choose.choice((0, 1, 2, 5, 10, 50, 100))
        elif how < 0.45 and self._numbers:
            number = self._nudged(choose.choice(self._numbers)) if choose.random() < 0.3 else choose.choice(self._numbers)
        elif how < 0.65:
            known = [v for sample, e, n in made.places() if isinstance(v := sample[e].get(n), int | float)]
            number = choose.choice(known) if known else self._size()
            if choose.random() < 0.5:
                number = self._nudged(number)
        else:
            number = self._size()
        return self._fitting(entity, name, number)

    def _shape(self, entity: str, name: str) -> Shape | None:
        return self.shapes.get((Scope.HOST if entity == "host" else Scope.GUEST, name))

    def _fitting(self, entity: str, name: str, number: float) -> float:
        shape = self._shape(entity, name)
        low = -LARGEST if shape is None or shape.low is None else shape.low
        high = LARGEST if shape is None or shape.high is None else shape.high
        number = min(max(number, low), high)
        fraction = shape is not None and shape.low is not None and shape.types & FLOAT and self._random.random() < 0.5
        return number if fraction else round(number)

    def _order(self, made: Candidate) -> None:
        """Exchange values that assumptions want the other way round."""
        for sample in (made.entities, *made.older):
            for entity, fields in sample.items():
                if (self.trial.scope is Scope.HOST) != (entity == "host"):
                    continue
                for small, large in self.trial.orders:
                    one, other = fields.get(small), fields.get(large)
                    if isinstance(one, int | float) and isinstance(other, int | float) and one > other:
                        fields[small], fields[large] = other, one

    # --- making what was found smaller -------------------------------------------------------------------------------------------------

    def _shrunk(self, candidate: Candidate, until: float) -> Candidate:
        """The same violation with fewer guests, samples and fields, and rounder numbers."""
        best, before = candidate, None
        while best is not before:
            before = best
            for simpler in self._simpler(best):
                made = simpler(best)
                if made is not None and self.trial.attempt(made.snapshot()).violation is not None:
                    best = made
                if time.thread_time() > until:
                    return best
        return best

    def _simpler(self, candidate: Candidate) -> Iterator[Callable[[Candidate], Candidate | None]]:
        """Ways to make a candidate simpler, for this one and those that come of it; None where there is nothing left to do."""
        yield lambda one: Candidate(one.copy().entities) if one.older else None
        yield lambda one: Candidate(one.copy().entities, one.copy().older[1:]) if one.older else None
        for guest in _guests(candidate.entities):
            yield partial(_without_guest, guest)
        places = [
            (number, entity, name)
            for number, sample in enumerate((candidate.entities, *candidate.older))
            for entity, fields in sample.items()
            for name in fields
        ]
        for place in places:
            yield partial(_without, place)
        for place in places:
            for rounder in _rounder(candidate.at(place)):
                yield partial(_with, place, rounder)

    def _reproduced(self, candidate: Candidate) -> tuple[Snapshot, Violation] | None:
        """The snapshot as it is printed and read back, with what the evaluator makes of that."""
        try:
            taken = made_snapshot(json.loads(json.dumps(as_json(candidate.snapshot()))), "the counterexample")
        except (ConfigError, ValueError):
            return None
        violation = self.trial.attempt(taken).violation
        return None if violation is None else (taken, violation)


def _without_guest(guest: str, candidate: Candidate) -> Candidate | None:
    if guest not in candidate.entities:
        return None
    made = candidate.copy()
    for sample in (made.entities, *made.older):
        sample.pop(guest, None)
    return made


def _without(place: Place, candidate: Candidate) -> Candidate | None:
    number, entity, name = place
    made = candidate.copy()
    samples = (made.entities, *made.older)
    if number >= len(samples) or name not in samples[number].get(entity, {}):
        return None
    del samples[number][entity][name]
    return made


def _with(place: Place, value: Value, candidate: Candidate) -> Candidate | None:
    """With a simpler value, unless it is as simple already."""
    now = candidate.at(place)
    if now is None or (isinstance(now, int | float) and isinstance(value, int | float) and _written(now) <= _written(value)):
        return None
    number, entity, name = place
    made = candidate.copy()
    (made.entities, *made.older)[number][entity][name] = value
    return made


def _rounder(value: Value) -> Iterator[Value]:
    """Simpler values to put in the place of one, the simplest first."""
    if isinstance(value, str):
        if value:
            yield ""
        return
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    power = 2.0 ** round(math.log2(abs(value))) if value else 0.0
    attempts: list[float] = [0, 1, 2, 10, 100, 1 << 10, 1 << 20, power]
    if value:
        digits = len(str(abs(int(value)))) - 1
        attempts += [round(value, -digits), round(value, 1 - digits), int(value)]
    for attempt in dict.fromkeys(attempts):
        simpler = int(attempt) if float(attempt).is_integer() else attempt
        if abs(simpler) <= 2 * abs(value) and _written(simpler) < _written(value):
            yield simpler


def _written(value: float) -> tuple[int, float]:
    """How simple a number is: by the digits that it takes, then by its size."""
    text = str(value)
    return len(text.rstrip("0")) + (4 if "." in text else 0), abs(value)


def _literals(forms: Iterable[Form]) -> tuple[list[float], list[str]]:
    numbers: set[float] = set()
    strings: set[str] = {"", "x"}
    todo = list(forms)
    while todo:
        form = todo.pop()
        todo.extend(form.items)
        if form.kind is FormKind.LITERAL:
            if isinstance(form.value, str):
                strings.add(form.value)
            elif isinstance(form.value, int | float) and abs(form.value) <= LARGEST:
                numbers.add(form.value)
    return sorted(numbers), sorted(strings)


def reads(terms: Terms) -> Reads:
    """What terms are made of."""
    fields: set[Read] = set()
    averages = names = False
    for term in terms.all():
        if term.op in ("field", "average") and isinstance(term.value, str):
            fields.add((scope_of(term.args[0]), term.value))
            averages = averages or term.op == "average"
        names = names or (term.op == "property" and term.value == "name")
    return Reads(frozenset(fields), averages, names)
