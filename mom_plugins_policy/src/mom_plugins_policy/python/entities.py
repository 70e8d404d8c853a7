"""The host and the guests of one cycle, as a policy is given them: to be read by type, to keep notes on, and to set controls of."""

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

# Sizes are counted in KiB, as fields and controls have them.
KiB, MiB, GiB, TiB = 1, 1 << 10, 1 << 20, 1 << 30


_Text = Annotated[str, Field(max_length=4096)]
_Scalar = bool | Annotated[int, Field(gt=-(1 << 63), lt=1 << 63)] | Annotated[float, Field(gt=-(2.0**63), lt=2.0**63)] | _Text
Notes = Annotated[dict[_Text, _Scalar | Annotated[list[_Scalar], Field(max_length=1000)]], Field(max_length=1000)]
"""The notes that a policy may keep on the host and the guests."""

CAN_BE_KEPT: Final = TypeAdapter(Notes)


class PolicyMistake(Exception):
    """Mistake in a policy as a whole, whichever guest it looks at."""


class Known(NamedTuple):
    """Things that policies go by in one cycle: the notes by entity's id, and by that and the control what earlier policies decided."""

    snapshot: Snapshot
    history: Sequence[Snapshot]
    declared: Declarations
    notes: dict[str, Notes]
    wanted: dict[tuple[str, str], Value]


_TIMES: Final = 4  # that a policy decides each control of each guest: a later decision takes the place of an earlier one
_SPARE: Final = 1000  # for hosts of few guests


class PythonEvaluation:
    """One evaluation of a policy: what it has made so far, and which notes it has looked at and may have changed.

    :ivar made: all decisions, given or not, each with why it cannot be
    :ivar loops: those over the guests that have not come to their end, in the order in which they began
    """

    def __init__(self, policy: PythonPolicy, known: Known) -> None:
        self.policy, self.known = policy, known
        self.made: list[tuple[Decision, str]] = []
        self.notes: dict[str, Notes] = {}
        self.loops: list[Loop] = []
        self.most = _SPARE + _TIMES * len(known.declared.controls) * (1 + len(known.snapshot.guests))
        """Decisions, given or not, after which a policy is taken to go on for ever."""

    def too_many(self) -> PolicyMistake:
        """What is raised then."""
        return PolicyMistake(f"it makes more than {self.most:,} decisions, as if its loop had no end")


@dataclass(slots=True, eq=False)
class Loop:
    """Loop over the guests: which one it is at, and once it was broken off, as by an error, in which frame and line."""

    guest: Guest
    place: tuple[int, int] | None = None


class _ReadableEntity:
    """Host or a guest, as a policy sees it. `unknown` names the fields that it read and that are unknown."""

    def __init__(self, found: mom_core.Host | mom_core.Guest, evaluation: PythonEvaluation) -> None:
        self._found, self._evaluation = found, evaluation
        self.name, self.entity, self.unknown = found.name, found.entity, dict[str, None]()

    def number(self, field: str) -> float | None:
        """Return a field that is a number, in the unit that `mom fields` tells; None, never 0, while it is unknown."""
        return self._read(field, self._found.number)

    def text(self, field: str) -> str | None:
        """Return a field that is a text; None while it is unknown."""
        return self._read(field, self._found.text)

    def items(self, field: str) -> Sequence[Mapping[str, Value]] | None:
        """Return a field that is a list, such as one item for each disk; None while it is unknown. What the policy does to it stays its
        own.
        """
        return deepcopy(self._read(field, self._found.items))

    def average(self, field: str) -> float | None:
        """Return the mean of what is known of a number in this cycle and in those before it that mom keeps (setting `history`); of a guest,
        in those since it was started.
        """
        self.number(field)
        snapshots = [*self._evaluation.known.history, self._evaluation.known.snapshot]
        found: list[mom_core.Host | mom_core.Guest] = [snapshot.host for snapshot in snapshots]
        if isinstance(self._found, mom_core.Guest):
            same = (snapshot.guests.get(self._found.id) for snapshot in snapshots)
            found = [item for item in same if item is not None and item.incarnation == self._found.incarnation]
        numbers = [number for item in found if (number := item.number(field)) is not None]
        return sum(numbers) / len(numbers) if numbers else None

    def prop(self, name: str) -> Value:
        """Return a property, which is not measured, such as a guest's `uuid` or the host's `interval`; None where there is none."""
        return deepcopy(self._found.properties.get(name))

    def wanted(self, control: str) -> Value:
        """Return the value that a policy of an earlier name has decided; None if none has."""
        return deepcopy(self._evaluation.known.wanted.get((self.entity.id, control)))

    @property
    def notes(self) -> Notes:
        """The notes that policies keep on it from cycle to cycle, also across restarts: numbers, texts, and lists of these, by name.

        All policies share them. A guest's notes go when the guest does, or is started anew.
        """
        noted, identity = self._evaluation.notes, self.entity.id
        if identity not in noted:
            noted[identity] = deepcopy(self._evaluation.known.notes.get(identity, {}))
        return noted[identity]

    def set(self, control: str, value: Value, *, because: str, least: float | None = None, most: float | None = None) -> Decision:
        """Return a value of a control, in the unit that `mom plugin info` tells. Nothing comes of it unless it is given with `yield`.

        :param because: why, for `mom explain`: words that an operator understands, without a full stop
        :param least: what is less is raised to this; None: nothing is
        :param most: what is more is lowered to this, also where `least` is more; None: nothing is
        """
        if len(self._evaluation.made) >= self._evaluation.most:
            raise self._evaluation.too_many()
        fault = self._fault(control, value, [bound for bound in (least, most) if bound is not None])
        if not fault and isinstance(value, int | float):
            value = value if least is None else max(value, least)
            value = value if most is None else min(value, most)
            if isinstance(value, float) and self._evaluation.known.declared.controls[control].unit.is_whole:
                value = int(value)  # as those of the policy language are: a size that was computed is no mistake
        decision = Decision(self.entity, control, value, str(because)[:600], self._place())
        self._evaluation.made.append((decision, fault))
        return decision

    def _fault(self, control: str, value: Value, bounds: Sequence[Value]) -> str:
        """Return why this cannot be decided; empty if it can. What each control takes, mom reviews for all evaluators."""
        controls, scope = self._evaluation.known.declared.controls, self.entity.scope
        if control not in controls or controls[control].scope is not scope:
            meant = _meant(control, [name for name, spec in controls.items() if spec.scope is scope])
            return f"no enabled plugin has a control {control!r:.60} of the {scope}{meant}"
        if bounds and None in map(as_number, [value, *bounds]):
            return f"the value or a bound of {control} is no finite number: {[value, *bounds]!r:.120}"
        fits = as_number(value) is not None or isinstance(value, str | bool | list | tuple)
        return "" if fits else f"{control} is to be {value!r:.40}, a {type(value).__name__} that no control takes"

    def _read(self, field: str, read: Callable[[str], T | None]) -> T | None:
        declared, scope = self._evaluation.known.declared.fields, self.entity.scope
        if (scope, field) not in declared:
            meant = _meant(field, [name for of, name in declared if of is scope])
            raise PolicyMistake(f"no enabled plugin declares the field {field!r:.60} of the {scope}{meant}")
        value = read(field)
        if value is None:
            self.unknown[field] = None
        return value

    def _place(self) -> Source:
        """Return where in the policy's file something is decided: the line that leads here."""
        frame = sys._getframe(2)
        while frame.f_code.co_filename != str(self._evaluation.policy.path) and frame.f_back is not None:
            frame = frame.f_back
        return Source(self._evaluation.policy.path.name, frame.f_lineno, 1)


class Host(_ReadableEntity):
    """Host in one cycle."""


class Guest(_ReadableEntity):
    """Guest in one cycle."""


class Guests(tuple[Guest, ...]):
    """All guests in one cycle, in the order of their names. Where loops over them are is noted, to know whose error ended one."""

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
    return "".join(f"; {near} is meant?" for near in get_close_matches(str(name), names, 1))
