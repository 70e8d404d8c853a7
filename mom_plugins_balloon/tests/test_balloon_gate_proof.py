"""Proof that the gate takes no guest below its need or promise: z3 on all paths of the function.

The gate runs with symbolic numbers. At each comparison, and each test whether a number is known, it runs once for each possible answer,
and the answer becomes an assumption. At the end of each path, z3 searches for numbers that take this path and break the contract. There
are none. Numbers are unbounded reals; hypothesis covers the rounding of floats (test_balloon_limits.py).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pytest
import z3  # type: ignore[import-untyped]  # it has no types
from guest_facts import memory_of, with_facts

from mom_kvm import HealthLimits
from mom_plugins_balloon.gate import MINIMUM_KIB, GateResult, ShrinkLimits, gate
from mom_plugins_balloon.memory import GuestMemory

OPTIONAL = ("maximum", "usable", "age", "total", "kernel_reserved", "largest", "target", "reach")
MOST_PATHS = 50_000


@dataclass(frozen=True)
class Turn:
    """Branch to another path: the answers up to it, and numbers that lead there."""

    answers: Sequence[bool]
    last: Any
    numbers: Any


class Paths:
    """Runner of a function on all its paths."""

    def __init__(self) -> None:
        self.known = z3.Solver()
        self._left: list[Turn] = []
        self._answers: list[bool] = []
        self._at = 0
        self._numbers: Any = None
        """Numbers that lead to the present point of this path."""

    def all_of(self, run: Callable[[], None], *given: Any) -> int:
        """Run a function on each path. Return the number of paths."""
        self.known.add(*given)
        assert self.known.check() == z3.sat
        self._numbers, count = self.known.model(), 0
        while True:
            self._at = 0
            run()
            count += 1
            assert count < MOST_PATHS
            if not self._left:
                return count
            turn = self._left.pop()
            # Keep the assumptions up to the branch: each answer has its own scope.
            self.known.pop(len(self._answers) - len(turn.answers) + 1)
            self._answers, self._numbers = list(turn.answers), turn.numbers
            self._learn(turn.last)

    def answer(self, question: Callable[[], Any] | None = None) -> bool:
        """Return the answer on this path. If the other answer is possible, another run takes it.

        :param question: function that builds the question. It is slow, and not called while this run repeats an earlier one. None for a
            question that is independent of all numbers
        """
        if self._at == len(self._answers):
            taken, one, other, numbers = True, True, True, self._numbers
            if question is not None:
                asked = question()
                taken = z3.is_true(self._numbers.eval(asked, model_completion=True))
                one, other = (asked, z3.Not(asked)) if taken else (z3.Not(asked), asked)
                possible = self.known.check(other)
                assert possible != z3.unknown
                numbers = self.known.model() if possible == z3.sat else None
            if numbers is not None:
                self._left.append(Turn([*self._answers, not taken], other, numbers))
            self._answers.append(taken)
            self._learn(one)
        self._at += 1
        return self._answers[self._at - 1]

    def _learn(self, fact: Any) -> None:
        self.known.push()
        self.known.add(fact)


class Unknown:
    """Number that is known only by answers.

    :param make: function that creates the number in z3 on first use
    """

    def __init__(self, paths: Paths, make: Callable[[], Any]) -> None:
        self.paths, self._make = paths, make

    @cached_property
    def value(self) -> Any:
        return self._make()

    def _compared(self, other: object, by: Callable[[Any, Any], Any]) -> bool:
        return self.paths.answer(lambda: z3.simplify(by(self.value, raw(other))) if isinstance(other, Unknown) else by(self.value, other))

    def __lt__(self, other: object) -> bool:
        return self._compared(other, operator.lt)

    def __le__(self, other: object) -> bool:
        return self._compared(other, operator.le)

    def __gt__(self, other: object) -> bool:
        return self._compared(other, operator.gt)

    def __ge__(self, other: object) -> bool:
        return self._compared(other, operator.ge)

    def __add__(self, other: object) -> Unknown:
        return Unknown(self.paths, lambda: self.value + raw(other))

    def __sub__(self, other: object) -> Unknown:
        return Unknown(self.paths, lambda: self.value - raw(other))

    def __mul__(self, other: object) -> Unknown:
        return Unknown(self.paths, lambda: self.value * raw(other))

    __radd__, __rmul__ = __add__, __mul__

    def __floor__(self) -> Unknown:
        return Unknown(self.paths, lambda: z3.ToReal(z3.ToInt(self.value)))

    def __ceil__(self) -> Unknown:
        return Unknown(self.paths, lambda: -z3.ToReal(z3.ToInt(-self.value)))


def raw(value: object) -> Any:
    return value.value if isinstance(value, Unknown) else value


def numbers(paths: Paths, *names: str) -> Iterator[Unknown]:
    for name in names:
        yield Unknown(paths, partial(z3.Real, name))


def contract(size: Any, memory: GuestMemory, allowed: ShrinkLimits) -> Any:
    """Return the contract of a permitted size."""
    current, told = raw(memory.size), memory.statistics
    promised = raw(memory.guarantee)
    if memory.maximum is not None:
        promised = z3.If(raw(memory.maximum) < promised, raw(memory.maximum), promised)
    kept, grows = size >= promised, size >= current
    if memory.maximum is not None:  # except for rounding, only the present size may exceed the maximum
        kept = z3.And(kept, z3.Or(size < raw(memory.maximum) + 1, size < current + 1))
    if memory.reach is not None:
        kept = z3.And(kept, z3.Or(size >= raw(memory.reach), grows))
    if memory.obstacle or told.usable is None or told.age is None:
        return z3.And(kept, grows)
    believed = z3.And(raw(told.age) <= raw(allowed.stale_after), raw(told.swap_in) <= HealthLimits.SWAP_KIB)  # no swap-out
    # The guest's size at its statistics is at most one of these. Its need is the part that was not usable.
    then = current
    if memory.largest is not None:
        then = z3.If(raw(memory.largest) > then, raw(memory.largest), then)
    if told.total is not None and memory.habits.kernel_reserved is not None and not memory.habits.counts_balloon:
        then = raw(told.total) + raw(memory.habits.kernel_reserved)
    need = z3.If(then > raw(told.usable), then - raw(told.usable), 0)
    least, share = raw(allowed.reserve_kib), raw(allowed.reserve_share) * need
    reserve = z3.If(least > share, least, share)
    return z3.And(kept, z3.Or(grows, z3.And(believed, size >= need + reserve)))


class WhateverIsKnown:
    """Facts of a guest's memory on one path. The first access to a number decides whether it is known."""

    def __init__(self, paths: Paths, some: Mapping[str, Unknown], **known: object) -> None:
        self._paths, self._some = paths, some
        vars(self).update(known)

    def __getattr__(self, name: str) -> Unknown | None:
        found = self._some[name] if self._paths.answer() else None
        setattr(self, name, found)
        return found


def proven(
    judge: Callable[[Any, Any, ShrinkLimits], GateResult],
    obstacle: str = "",
    *,
    counts_balloon: bool = False,
    all_known: bool = True,
    unknown: Sequence[str] = (),
) -> int:
    """Prove the contract on all paths, and return their number. Fail with numbers that break it.

    :param all_known: whether all of `OPTIONAL` are known, or any subset
    :param unknown: facts that are always unknown
    """
    paths = Paths()
    wanted, current, guarantee, swapping, reserve, stale = numbers(paths, "wanted", "current", "guarantee", "swapping", "reserve", "stale")
    some = {name: one for name, one in zip(OPTIONAL, numbers(paths, *OPTIONAL), strict=True) if name not in unknown}
    free: dict[str, Any] = {"on_its_way": True, "pause": "", "origin_unknown": "", "target_age": None}
    known: dict[str, Any] = {"size": current, "guarantee": guarantee, "obstacle": obstacle, **free}
    allowed: Any = ShrinkLimits(reserve, 0.05, stale)  # type: ignore[arg-type]  # unknowns

    def run() -> None:
        memory: Any = memory_of(**known, **some, swap_in=swapping, counts_balloon=counts_balloon)
        if not all_known:
            told = WhateverIsKnown(paths, some, swap_in=swapping, swapping=swapping, **dict.fromkeys(unknown))
            habits = WhateverIsKnown(paths, some, counts_balloon=counts_balloon, **dict.fromkeys(unknown))
            memory = WhateverIsKnown(paths, some, statistics=told, habits=habits, **known, **dict.fromkeys(unknown))
        passed = judge(wanted, memory, allowed)
        if passed.size is not None:
            broken = paths.known.check(z3.Not(contract(raw(passed.size), memory, allowed)))
            assert broken == z3.unsat, paths.known.model() if broken == z3.sat else "z3 cannot tell"

    whole = [z3.IsInt(raw(wanted))]
    positive = [raw(one) >= 0 for one in (reserve, swapping, guarantee, *some.values())]
    return paths.all_of(run, raw(wanted) > MINIMUM_KIB, raw(current) > 0, *whole, *positive)


@pytest.mark.long
@pytest.mark.parametrize("obstacle", ["", "its memory is pinned"], ids=["free", "held"])
@pytest.mark.parametrize("unknown", [["reach"], ["total", "kernel_reserved", "largest"]], ids=["all in reach", "not all"])
def test_gate_protects_need_and_guarantee_with_any_facts(obstacle: str, unknown: Sequence[str]) -> None:
    """The balloon's reach and the need are independent, so each is tried without the other."""
    assert proven(gate, obstacle, all_known=False, unknown=unknown) > 100


@pytest.mark.long
@pytest.mark.parametrize("counts_balloon", [False, True])
def test_gate_protects_need_and_guarantee_with_all_facts(*, counts_balloon: bool) -> None:
    assert proven(gate, "", counts_balloon=counts_balloon) > 20


def no_guarantee(wanted: Any, memory: GuestMemory, allowed: ShrinkLimits) -> GateResult:
    return gate(wanted, memory._replace(guarantee=0.0), allowed)


def no_largest(wanted: Any, memory: GuestMemory, allowed: ShrinkLimits) -> GateResult:
    return gate(wanted, memory._replace(largest=None), allowed)


def no_age(wanted: Any, memory: GuestMemory, allowed: ShrinkLimits) -> GateResult:
    return gate(wanted, with_facts(memory, age=0), allowed)


def no_reach(wanted: Any, memory: GuestMemory, allowed: ShrinkLimits) -> GateResult:
    return gate(wanted, memory._replace(reach=None), allowed)


@pytest.mark.parametrize("wrong", [no_guarantee, no_largest, no_age, no_reach])
def test_proof_finds_a_gate_that_ignores_a_fact(wrong: Callable[[Any, GuestMemory, ShrinkLimits], GateResult]) -> None:
    with pytest.raises(AssertionError, match="current"):
        proven(wrong, counts_balloon=wrong is no_largest)
