"""Units of computed values: what the numbers of a term count, as far as that can be known."""

from __future__ import annotations

from mom_plugins_policy.language.words.functions import FUNCTIONS
from mom_plugins_policy.language.words.units import ANY, UNKNOWN, Dimension, Measured, dimension_of_unit, joined
from mom_plugins_policy.language.words.vocabulary import Vocabulary
from mom_plugins_policy.symbols.terms import Term, scope_of


class Dimensions:
    """The dimensions of terms, each computed once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[Term, Dimension] = {}

    def of(self, term: Term) -> Dimension:
        """What a term's numbers count."""
        todo = [term]
        while todo:  # without recursion, as terms may be deep
            item = todo[-1]
            if item in self._known:
                todo.pop()
                continue
            missing = [arg for arg in item.args if arg not in self._known]
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            self._known[item] = self._computed(item)
        return self._known[term]

    def _computed(self, term: Term) -> Dimension:
        args = [self._known[arg] for arg in term.args]
        if term.op == "const":
            return ANY
        if term.op in ("field", "average") and isinstance(term.value, str):
            spec = self._vocabulary.field(scope_of(term.args[0]), term.value)
            return UNKNOWN if spec is None else dimension_of_unit(spec.unit)
        if term.op == "ite":
            return joined(args[1], args[2])
        if term.op in ("request", "requested"):
            return args[0]
        word = FUNCTIONS.get(term.op)
        if word is None:
            return UNKNOWN
        known = [arg.value if arg.is_constant else None for arg in term.args]
        return word.unit([Measured(*each) for each in zip(args, known, strict=True)])
