"""Host and guests of one cycle, as policies in Python see them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple, TypeVar

import mom_core
from mom_core import Decision, Declarations, Snapshot, Source, Value
from mom_plugins_policy.python.files import PythonPolicy
from mom_plugins_policy.snapshots import did_you_mean

T = TypeVar("T")

# In KiB, as in fields and controls.
KiB, MiB, GiB, TiB = 1, 1 << 10, 1 << 20, 1 << 30


Notes = dict[str, Any]


class PolicyMistake(Exception):
    """Mistake in a policy, independent of any guest."""


class PolicyCycle(NamedTuple):
    """Data of one cycle: `notes` keyed by entity id, `decided` keyed by entity id and control."""

    snapshot: Snapshot
    history: Sequence[Snapshot]
    declared: Declarations
    notes: dict[str, Notes]
    decided: dict[tuple[str, str], Value]


class PythonEvaluation:
    """One evaluation of one policy.

    :ivar made: all decisions, yielded or not
    :ivar loops: the guest of each unfinished loop over the guests, oldest loop first
    """

    def __init__(self, policy: PythonPolicy, cycle: PolicyCycle) -> None:
        self.policy, self.cycle = policy, cycle
        self.made: list[Decision] = []
        self.notes: dict[str, Notes] = {}
        self.loops: list[list[Guest]] = []


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
        if isinstance(value, int | float):
            value = value if least is None else max(value, least)
            value = value if most is None else min(value, most)
            spec = self._evaluation.cycle.declared.controls.get(control)
            if isinstance(value, float) and spec is not None and spec.unit.is_whole:
                value = int(value)  # as in the policy language: a fraction in a computed size is no mistake
        decision = Decision(self.entity, control, value, str(because)[:600], self._place())
        self._evaluation.made.append(decision)
        return decision

    def _read(self, field: str, read: Callable[[str], T | None]) -> T | None:
        declared, scope = self._evaluation.cycle.declared.fields, self.entity.scope
        if (scope, field) not in declared:
            advice = did_you_mean(field, [name for of, name in declared if of is scope])
            message = f"no enabled plugin declares the field {field!r:.60} of the {scope}"
            raise PolicyMistake(f"{message}; {advice}" if advice else message)
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
            loops, loop = self[0]._evaluation.loops, list[Guest]()
            loops.append(loop)
            for guest in super().__iter__():
                loop[:] = [guest]
                yield guest
            loops.remove(loop)
