"""What a term comes to in one snapshot, computed in the plainest way: terms have to agree with the evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mom_core import Guest, Snapshot
from mom_plugins_policy.language.runtime import Guests, requested
from mom_plugins_policy.language.words.functions import FUNCTIONS
from mom_plugins_policy.symbols.terms import Term

_SINGLE: dict[str, Callable[[Any], Any]] = {"request": lambda value: value, "requested": requested}
_NOT_GIVEN = object()


class Unknowable(Exception):
    """The term has a part about which nothing is known."""


def value_of(term: Term, taken: Snapshot, guest: Guest | None) -> Any:
    """The term's value, for a guest as the one that is looked at."""
    return _Evaluation(taken, guest).value(term)


class _Evaluation:
    def __init__(self, taken: Snapshot, guest: Guest | None) -> None:
        self.taken = taken
        self.guest = guest
        self.known: dict[Term, Any] = {}

    def value(self, term: Term) -> Any:
        if term not in self.known:
            self.known[term] = self._computed(term)
        return self.known[term]

    def _computed(self, term: Term) -> Any:
        op, args = term.op, term.args
        given = self._given(term)
        if given is not _NOT_GIVEN:
            return given
        if op == "ite":
            return self.value(args[1] if self.value(args[0]) else args[2])
        if op in ("min", "max"):
            left, right = self.value(args[0]), self.value(args[1])
            return right if (left > right if op == "min" else left < right) else left
        word = FUNCTIONS.get(op)
        found = word.compute if word is not None else _SINGLE.get(op)
        if found is None:
            raise Unknowable(op)
        return found(*(self.value(arg) for arg in args))

    def _given(self, term: Term) -> Any:
        """What the snapshot, or the program's text, holds."""
        op, args = term.op, term.args
        if op == "const":
            return term.value
        if op == "host":
            return self.taken.host
        if op == "guest" and term.value == 0 and self.guest is not None:
            return self.guest
        if op == "guests":
            return Guests(self.taken.guests.values())
        if op == "field":
            return self.value(args[0]).fields.get(term.value)
        if op == "present":
            return term.value in self.value(args[0]).fields
        if op == "property":
            return self.value(args[0]).properties[term.value]
        if op == "average":
            return self._average(self.value(args[0]), str(term.value))
        return _NOT_GIVEN

    def _average(self, entity: Any, name: str) -> float:
        older = [one.host if entity is self.taken.host else one.guests.get(entity.id) for one in self.taken.history]
        values = [one.fields.get(name) for one in (*older, entity) if one is not None]
        known = [value for value in values if value is not None]
        return float(sum(known) / len(known)) if known else 0.0
