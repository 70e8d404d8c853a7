"""The next cycle of a snapshot in which nothing changes but what mom has set: whether a policy takes back then what it has just done.

Two cycles are not followed on symbols. What is searched are snapshots of one to three guests, by the evaluator itself: so what is found is
what would happen, and that nothing was found says little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mom_core import Decision, Guest, Scope, Snapshot, Value
from mom_plugins_policy.language.policy import Policy
from mom_plugins_policy.prove.attempts import Attempt, Attempts, Bound, Violation, number_of

INSIDE = ("mem_usable", "mem_unused", "mem_available")
"""What there is more or less of inside a guest when its balloon gives or takes, as its programs use the same."""

FREE = ("mem_really_available", "mem_free")
"""What the host has less or more of then: what guests get counts as used, what is taken from them as free."""

_SIZE = "balloon_target"


def next_cycle(taken: Snapshot, set_to: Mapping[str, float], control: str, field: str) -> Snapshot:
    """The snapshot a cycle later, when guests have what was decided and have done nothing else.

    :param set_to: what guests have now, by guest id
    :param field: the field with what a guest has of the control
    """
    interval = number_of(taken.host.properties.get("interval")) or 0.0
    given: float = 0
    guests = dict(taken.guests)
    for identity, value in set_to.items():
        guest = taken.guests[identity]
        change = value - (number_of(guest.fields.get(field)) or 0)
        given += change
        now: dict[str, Value] = {field: value, control: value, f"{control}_age": interval}
        guests[identity] = replace(
            guest, fields={**guest.fields, **(_moved(guest.fields, INSIDE, change) if control == _SIZE else {}), **now}
        )
    host = taken.host
    if control == _SIZE:
        host = replace(host, fields={**host.fields, **_moved(host.fields, FREE, -given)})
    return replace(taken, host=host, guests=guests)


def _moved(fields: Mapping[str, Value], names: Sequence[str], change: float) -> dict[str, Value]:
    """Those of these fields that are known, with so much more."""
    return {name: max(0, value + change) for name in names if (value := number_of(fields.get(name))) is not None}


class StepAttempts(Attempts):
    """Tries snapshots for two cycles: whether a guest's value goes one way by more than the bound, and then back by more than that."""

    def __init__(
        self, policy: Policy, control: str, field: str, bound: Bound, assumptions: Sequence[str] = (),
        orders: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        super().__init__(policy, control, Scope.GUEST, bound, assumptions, orders)
        self.field = field

    def following(self, taken: Snapshot) -> Snapshot | None:
        """The snapshot of the next cycle; None where nothing was decided, or something that a guest cannot have."""
        set_to = {
            decision.entity.id: int(value)
            for decision in self.policy.evaluate(taken).decisions
            if decision.control == self.control
            and decision.entity.scope is Scope.GUEST
            and (value := number_of(decision.value)) is not None
            and number_of(taken.guests[decision.entity.id].fields.get(self.field)) is not None
        }
        return next_cycle(taken, set_to, self.control, self.field) if set_to else None

    def _judged(self, decisions: Sequence[Decision], bounds: Mapping[str, object], taken: Snapshot) -> Attempt:
        later = self.following(taken)
        if later is None or not self._assumed(later):
            return Attempt(math.inf)
        nearest = Attempt(math.inf)
        for decision in self.policy.evaluate(later).decisions:
            step = number_of(bounds.get(decision.entity.id))
            if decision.control != self.control or decision.entity.scope is not Scope.GUEST or step is None:
                continue
            before, between, after = self._of(taken, decision), self._of(later, decision), number_of(decision.value)
            if before is None or between is None or after is None:
                continue
            there, back = between - before, between - int(after)
            if there * back < 0:
                there, back = abs(there), -abs(back)
            smallest = min(abs(there), back)
            if smallest > step:
                return Attempt(0.0, Violation(decision, int(after), step, before, between))
            if smallest > 0 and step - smallest < nearest.distance:
                nearest = Attempt(float(step - smallest))
        return nearest

    def _of(self, taken: Snapshot, decision: Decision) -> float | None:
        """What the guest of a decision has in a snapshot."""
        guest: Guest = taken.guests[decision.entity.id]
        return number_of(guest.fields.get(self.field))
