"""Host and guests of one cycle, as policies in Python see them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Final, NamedTuple, TypeVar

from pydantic import Field, TypeAdapter

import mom_core
from mom_core import Decision, Declarations, Snapshot, Source, Value, as_number
from mom_plugins_policy.python.files import PythonPolicy

T = TypeVar("T")

# In KiB, as in fields and controls.
KiB, MiB, GiB, TiB = 1, 1 << 10, 1 << 20, 1 << 30


_Text = Annotated[str, Field(max_length=4096)]
_Scalar = bool | Annotated[int, Field(gt=-(1 << 63), lt=1 << 63)] | Annotated[float, Field(gt=-(2.0**63), lt=2.0**63)] | _Text
Notes = Annotated[dict[_Text, _Scalar | Annotated[list[_Scalar], Field(max_length=1000)]], Field(max_length=1000)]

CAN_BE_KEPT: Final = TypeAdapter(Notes)


class PolicyMistake(Exception):
    """Mistake in a policy, independent of any guest."""


class PolicyCycle(NamedTuple):
    """Data of one cycle: `notes` keyed by entity id, `decided` keyed by entity id and control."""

    snapshot: Snapshot
    history: Sequence[Snapshot]
    declared: Declarations
    notes: dict[str, Notes]
    decided: dict[tuple[str, str], Value]


_TIMES: Final = 4  # decisions per control and guest: later decisions replace earlier decisions
_SPARE: Final = 1000  # more decisions, for hosts with few guests


class PythonEvaluation:
    """One evaluation of one policy.

    :ivar made: all decisions, each with its fault or an empty string
    :ivar loops: unfinished loops over the guests, oldest first
    """

    def __init__(self, policy: PythonPolicy, cycle: PolicyCycle) -> None:
        self.policy, self.cycle = policy, cycle
        self.made: list[tuple[Decision, str]] = []
        self.notes: dict[str, Notes] = {}
        self.loops: list[Loop] = []
        self.most = _SPARE + _TIMES * len(cycle.declared.controls) * (1 + len(cycle.snapshot.guests))
        """Maximum number of decisions, yielded or not."""

    def too_many(self) -> PolicyMistake:
        """Return the error for too many decisions."""
        return PolicyMistake(f"the policy makes more than {self.most:,} decisions; does a loop never end?")


@dataclass(slots=True, eq=False)
class Loop:
    """Loop over the guests. If the loop ended early, `place` contains the frame's ID and the line."""

    guest: Guest
    place: tuple[int, int] | None = None


class _ReadableEntity:
    """Host or guest, as a policy sees it. `unknown` contains the names of unknown fields that the policy read."""

    def __init__(self, entity: mom_core.Host | mom_core.Guest, evaluation: PythonEvaluation) -> None:
        self._entity, self._evaluation = entity, evaluation
        self.name, self.entity, self.unknown = entity.name, entity.entity, dict[str, None]()

    def number(self, field: str) -> float | None:
        """Return a numeric field, in the unit that `mom fields` shows; None while unknown."""
        return self._read(field, self._entity.number)

    def text(self, field: str) -> str | None:
        """Return a string field; None while unknown."""
        return self._read(field, self._entity.text)

    def items(self, field: str) -> Sequence[Mapping[str, Value]] | None:
        """Return a copy of a list field, such as one item per disk; None while unknown."""
        return deepcopy(self._read(field, self._entity.items))

    def average(self, field: str) -> float | None:
        """Return a numeric field's mean over the kept cycles (setting `history`); for guests, since their start. None: unknown."""
        self.number(field)
        snapshots = [*self._evaluation.cycle.history, self._evaluation.cycle.snapshot]
        samples: list[mom_core.Host | mom_core.Guest] = [snapshot.host for snapshot in snapshots]
        if isinstance(self._entity, mom_core.Guest):
            same = (snapshot.guests.get(self._entity.id) for snapshot in snapshots)
            samples = [item for item in same if item is not None and item.incarnation == self._entity.incarnation]
        numbers = [number for item in samples if (number := item.number(field)) is not None]
        return sum(numbers) / len(numbers) if numbers else None

    def prop(self, name: str) -> Value:
        """Return a property, such as a guest's `uuid` or the host's `interval`; None if absent."""
        return deepcopy(self._entity.properties.get(name))

    def wanted(self, control: str) -> Value:
        """Return the value that an earlier policy decided in this cycle, or None."""
        return deepcopy(self._evaluation.cycle.decided.get((self.entity.id, control)))

    @property
    def notes(self) -> Notes:
        """Values that policies store by name: numbers, strings, and lists of these. mom keeps them across cycles and restarts of mom.

        All policies share them. mom deletes a guest's notes when the guest is gone or restarts.
        """
        noted, identity = self._evaluation.notes, self.entity.id
        if identity not in noted:
            noted[identity] = deepcopy(self._evaluation.cycle.notes.get(identity, {}))
        return noted[identity]

    def set(self, control: str, value: Value, *, because: str, least: float | None = None, most: float | None = None) -> Decision:
        """Return a decision on a control, in the unit that `mom plugin info` shows. The decision has no effect without `yield`.

        :param because: reason for `mom explain`, without a full stop
        :param least: lower bound of the value
        :param most: upper bound of the value, which overrides `least`
        """
        if len(self._evaluation.made) >= self._evaluation.most:
            raise self._evaluation.too_many()
        fault = self._fault(control, value, [bound for bound in (least, most) if bound is not None])
        if not fault and isinstance(value, int | float):
            value = value if least is None else max(value, least)
            value = value if most is None else min(value, most)
            if isinstance(value, float) and self._evaluation.cycle.declared.controls[control].unit.is_whole:
                value = int(value)  # as in the policy language: a fraction in a computed size is no mistake
        decision = Decision(self.entity, control, value, str(because)[:600], self._place())
        self._evaluation.made.append((decision, fault))
        return decision

    def _fault(self, control: str, value: Value, bounds: Sequence[Value]) -> str:
        controls, scope = self._evaluation.cycle.declared.controls, self.entity.scope
        if control not in controls or controls[control].scope is not scope:
            meant = _meant(control, [name for name, spec in controls.items() if spec.scope is scope])
            return f"no enabled plugin has a control {control!r:.60} of the {scope}{meant}"
        if bounds and None in map(as_number, [value, *bounds]):
            return f"the value or a bound of {control} is not a finite number: {[value, *bounds]!r:.120}"
        fits = as_number(value) is not None or isinstance(value, str | bool | list | tuple)
        return "" if fits else f"{control} is set to {value!r:.40}, a {type(value).__name__}, which no control accepts"

    def _read(self, field: str, read: Callable[[str], T | None]) -> T | None:
        declared, scope = self._evaluation.cycle.declared.fields, self.entity.scope
        if (scope, field) not in declared:
            meant = _meant(field, [name for of, name in declared if of is scope])
            raise PolicyMistake(f"no enabled plugin declares the field {field!r:.60} of the {scope}{meant}")
        value = read(field)
        if value is None:
            self.unknown[field] = None
        return value

    def _place(self) -> Source:
        frame = sys._getframe(2)
        while frame.f_code.co_filename != str(self._evaluation.policy.path) and frame.f_back is not None:
            frame = frame.f_back
        return Source(self._evaluation.policy.path.name, frame.f_lineno, 1)


class Host(_ReadableEntity):
    """Host in one cycle."""


class Guest(_ReadableEntity):
    """Guest in one cycle."""


class Guests(tuple[Guest, ...]):
    """Guests of one cycle, in name order."""

    def __iter__(self) -> Iterator[Guest]:
        if self:
            loops, loop = self[0]._evaluation.loops, Loop(self[0])
            loops.append(loop)
            for loop.guest in super().__iter__():
                try:
                    yield loop.guest
                except GeneratorExit:
                    around = sys._getframe(1)
                    loop.place = (id(around), around.f_lineno)
                    raise
            loops.remove(loop)


def _meant(name: object, names: Sequence[str]) -> str:
    return "".join(f"; did you mean {near}?" for near in get_close_matches(str(name), names, 1))
