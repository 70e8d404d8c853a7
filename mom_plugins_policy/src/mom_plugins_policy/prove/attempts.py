"""What the real evaluator makes of a snapshot, measured against bounds: what a counterexample is, and how near a snapshot comes to one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mom_core import HOST_ID, Decision, Scope, Snapshot
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.prove.accounts import ROUNDING_KIB


class Subject(StrEnum):
    """What a bound is on."""

    VALUE = "value"
    GROWTH = "growth"
    """By how much all guests together get more than they have; the bound is about the host."""
    RETURN = "return"
    """By how much a guest's value goes one way in a cycle and back in the next, in which nothing else has changed."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound of a control: at least, or at most, what an expression of the policy language comes to.

    In `expression`, `guest` is the guest whose control it is.
    """

    text: str
    """As it was given: a number, a field or an expression."""
    expression: str
    at_least: bool
    subject: Subject = Subject.VALUE
    meaning: str = ""
    """What it says, in words; empty for what was asked for."""

    def __str__(self) -> str:
        if self.subject is Subject.GROWTH:
            return f"of all guests together grows by at most {self.text}"
        if self.subject is Subject.RETURN:
            return f"does not go and return by more than {self.text}"
        return f"{'at least' if self.at_least else 'at most'} {self.text}"


@dataclass(frozen=True, slots=True)
class Violation:
    """A decision that is out of bounds, in the control's unit as the controller gets it.

    Where all guests together get too much, `value` is that, and the decision is the one that gives most. Of a value that returns, `before`
    is what the guest had, and `between` what it got in the first of the two cycles.
    """

    decision: Decision
    value: float
    bound: float
    before: float | None = None
    between: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a snapshot. `distance`: how far the nearest decision is inside of the bound, infinite if there is none."""

    distance: float
    violation: Violation | None = None


def number_of(value: object) -> float | None:
    """A value as a finite number, None if it is none."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def is_whole(policy: Policy, control: str) -> bool:
    """Whether what is asked for of a control is cut to a whole number."""
    scope, whole = policy.takes(control)
    return whole or scope is None


class Attempts:
    """Tries snapshots on a policy, against one bound, where all assumptions hold.

    :param assumptions: expressions that have to be true, for each guest or for the host
    :param orders: names of fields of the control's scope of which the first is at most the second, where both are known
    """

    def __init__(
        self,
        policy: Policy,
        control: str,
        scope: Scope,
        bound: Bound,
        assumptions: Sequence[str] = (),
        orders: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.policy = policy
        self.control = control
        self.scope = scope
        self.bound = bound
        self.orders = orders
        self._each = "with Guests guest" if scope is Scope.GUEST else "eval"
        form = f"({self._each} {bound.expression})"
        self._bound, self._bound_alone = beside(policy, [form]), beside(policy, [form], alone=True)
        self._assumptions = beside(policy, [f"({self._each} {text})" for text in assumptions], alone=True) if assumptions else None
        self._whole = is_whole(policy, control)

    def attempt(self, taken: Snapshot) -> Attempt:
        """Evaluate the policy, and see how near to its bounds what it decides is."""
        result = self.policy.evaluate(taken)
        decisions = [one for one in result.decisions if one.control == self.control and one.entity.scope is self.scope]
        if not decisions or not self._assumed(taken):
            return Attempt(math.inf)
        return self._judged(decisions, self._bounds(taken), taken)

    def _judged(self, decisions: Sequence[Decision], bounds: Mapping[str, object], taken: Snapshot) -> Attempt:
        """How near these decisions come to the bounds of their owners."""
        nearest = Attempt(math.inf)
        for decision in decisions:
            value, bound = number_of(decision.value), number_of(bounds.get(decision.entity.id))
            if value is None or bound is None:
                continue
            distance = float(value - bound) if self.bound.at_least else float(bound - value)
            if self._whole:
                value, bound = int(value), int(bound)
            outside = value < bound if self.bound.at_least else value > bound
            if outside:
                return Attempt(min(distance, 0.0), Violation(decision, value, bound))
            if distance < nearest.distance:
                nearest = Attempt(distance)
        return nearest

    def _bounds(self, taken: Snapshot) -> dict[str, object]:
        """The value of the bound: one for each guest, by id, or that of the host; none where it cannot be computed."""
        result = self._bound.evaluate(taken)
        values = result.values if not result.stopped else self._bound_alone.evaluate(taken).values
        if not values:
            return {}
        return dict(zip(taken.guests, values[-1], strict=True)) if self.scope is Scope.GUEST else {HOST_ID: values[-1]}

    def _assumed(self, taken: Snapshot) -> bool:
        for entity in taken.guests.values() if self.scope is Scope.GUEST else (taken.host,):
            for small, large in self.orders:
                one, other = number_of(entity.fields.get(small)), number_of(entity.fields.get(large))
                if one is not None and other is not None and one > other:
                    return False
        if self._assumptions is None:
            return True
        values = self._assumptions.evaluate(taken).values
        held = values if self.scope is Scope.HOST else [one for each in values for one in each]
        return len(values) == len(self._assumptions.program.forms) and all(held)


class GrowthAttempts(Attempts):
    """Tries snapshots against a bound on what all guests together get beyond what they have.

    :param field: the field with what a guest has
    """

    def __init__(
        self, policy: Policy, control: str, field: str, bound: Bound, assumptions: Sequence[str] = (),
        orders: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        super().__init__(policy, control, Scope.GUEST, bound, assumptions, orders)
        self.field = field

    def _judged(self, decisions: Sequence[Decision], bounds: Mapping[str, object], taken: Snapshot) -> Attempt:
        bound = number_of(next(iter(bounds.values()), None))
        grown: list[tuple[float, Decision]] = []
        for decision in decisions:
            value, now = number_of(decision.value), number_of(taken.guests[decision.entity.id].fields.get(self.field))
            if value is not None and now is not None and int(value) > now:
                grown.append((int(value) - now, decision))
        if bound is None or not grown:
            return Attempt(math.inf)
        together = sum(growth for growth, _ in grown)
        distance = bound + ROUNDING_KIB * len(grown) - together
        if distance >= 0:
            return Attempt(float(distance))
        return Attempt(0.0, Violation(max(grown, key=lambda one: one[0])[1], together, bound))


BESIDE = "~bounds"
"""The name under which expressions of the command line stand behind the policies, so that they can use what these define."""


def beside(policy: Policy, forms: Sequence[str], *, alone: bool = False) -> Policy:
    """A program of the policy and more forms, which are evaluated last. `alone`: of the forms only."""
    texts = {} if alone else {text.name: text.text for text in policy.program.texts}
    return Policy.compile({**texts, BESIDE: "\n".join(forms)}, policy.declarations, policy.limits)
