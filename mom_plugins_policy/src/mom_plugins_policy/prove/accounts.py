"""What all guests together are given, followed through an account: a variable from which each step of a loop takes what its guest gets.

A proof looks at one guest, and sums over all guests are any numbers to it. But where a policy keeps an account, one guest is enough. Let
the account stand at `entry` when a loop over `Guests` begins, and let each step, of whichever guest, leave it finite, not negative and no
higher than it found it. If a guest never gets more than its own step took from the account, then what all get is no more than what all
steps took, and that is no more than `entry`, as the steps are one after the other and the account is never put up again. So there are
three things to show of the one guest that is looked at, and it stands for each: that the account begins at no more than the bound, that no
assignment puts it up or below 0, and that what the guest gets is what its step took, but for `ROUNDING_KIB`.

What other steps leave in the account is any number from 0 to the most that it may begin with, as that is what was shown of every step.
A step that fails may have taken something, and its guest gets nothing. Whatever a policy does that this does not fit, such as a second loop
that takes from the account, a call of itself, or a request before the loop that an error may make the last one, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from mom_plugins_policy.language.analysis import Definition, Program
from mom_plugins_policy.language.syntax import Form, FormKind
from mom_plugins_policy.language.words.vocabulary import FINITE, Vocabulary
from mom_plugins_policy.symbols.machine import Effects, SymbolicEvaluator, Unsupported
from mom_plugins_policy.symbols.terms import Term

ROUNDING_KIB = 1
"""By how much more than its step took a guest may get: what is shared out in fractions is rounded."""


class Assignment(NamedTuple):
    """What a step assigns to the account, what was in it, and the conditions of that."""

    value: Term
    before: Term
    path: Sequence[tuple[Term, bool]]


class AccountedEvaluator(SymbolicEvaluator):
    """A run that follows one account.

    After `run`: `entry` and `entry_path` are what is in the account when its loop begins, and when it does; `taken` is what the step of the
    guest that is looked at took; `assignments` are those of that step.
    """

    def __init__(self, program: Program, vocabulary: Vocabulary, account: str, watched: str) -> None:
        super().__init__(program, vocabulary, watched=watched)
        self.account = account
        self.entry: Term | None = None
        self.entry_path: Sequence[tuple[Term, bool]] = ()
        self.assignments: list[Assignment] = []
        self._took: tuple[Term, Term] | None = None
        self._stepping = False

    @property
    def taken(self) -> Term:
        """What the guest's step took from the account; 0 where the loop is not reached."""
        if self._took is None:
            return self.terms.const(0)
        reached = self.terms.both(self.entry_path)
        return self.terms.ite(reached, self.terms.operation("sub", self._took), self.terms.const(0))

    def _takes(self, form: Form) -> bool:
        return self.account in self.effects_of(form).assigned

    def _with_account(self, form: Form, arguments: Sequence[Form]) -> Term:
        items, _, body = arguments
        if not self._takes(body):
            return self._with(form, arguments)
        if self.entry is not None or self._contained or self._others or self._name(items, items.name) is not self.terms.guests:
            raise Unsupported(form, f"{self.account} is assigned in more than one loop over guests")
        self.entry = self._variable(form, self.account)
        self.entry_path = list(self.path)
        if any(value is not self.terms.nil for value, _ in self.endings):
            raise Unsupported(form, "an error before this loop leaves requests that take nothing from an account")
        return self._with(form, arguments)

    def _set_account(self, form: Form, arguments: Sequence[Form]) -> Term:
        if arguments[0].name != self.account or not self._stepping:
            return self._set(form, arguments)
        before = self._variable(form, self.account)
        value = self._set(form, arguments)
        self.assignments.append(Assignment(value, before, list(self.path)))
        return value

    def _tracked_step(self, name: str, body: Form) -> None:
        if not self._takes(body):
            super()._tracked_step(name, body)
            return
        before, self._stepping = self.lookup(self.account), True
        super()._tracked_step(name, body)
        self._stepping, self._took = False, (before, self.lookup(self.account))

    def _forget_variables(self, effects: Effects) -> None:
        super()._forget_variables(effects)
        if self.entry is None or self.account not in effects.assigned:
            return
        places = [key for scope in self._chain if (key := ("variable", scope, self.account)) in self._store]
        if len(places) != 1:
            raise Unsupported(self.program.forms[0], f"there is more than one variable {self.account}")
        self._put(places[0], self.terms.fresh(self.account, FINITE, self.terms.const(0).low, self.entry.high))

    def _not_entered(self, form: Form, definition: Definition) -> Term:
        if self._takes(definition.body):
            raise Unsupported(form, f"{self.account} is assigned in a function that calls itself")
        return super()._not_entered(form, definition)

    _METHODS: ClassVar[dict[str, Callable[..., Term]]] = {
        **SymbolicEvaluator._METHODS, "with": _with_account, "set": _set_account, "setq": _set_account,
    }  # fmt: skip


def accounts_of(program: Program) -> list[str]:
    """The variables that may be accounts: those from which something is taken where they are assigned."""
    found: list[str] = []
    todo = list(reversed([*program.forms, *(definition.body for definition in program.functions())]))
    while todo:
        form = todo.pop()
        todo.extend(reversed(form.items))
        roles = program.roles.get(form.index)
        if roles is not None and roles.assigned and _takes_from(form, roles.assigned):
            found.append(roles.assigned)
    return list(dict.fromkeys(found))


def _takes_from(form: Form, name: str) -> bool:
    """Whether a difference of the variable and something is anywhere in a form."""
    todo = [form]
    while todo:
        one = todo.pop()
        todo.extend(one.items)
        if len(one.items) == 3 and one.items[0].kind is FormKind.OPERATOR and one.items[0].name == "-" and one.items[1].name == name:
            return True
    return False
