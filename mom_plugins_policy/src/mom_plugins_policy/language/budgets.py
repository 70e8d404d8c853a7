"""Budgets of an evaluation: time, steps, and sizes of built values."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NoReturn

from mom_plugins_policy.language.errors import Trouble
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.values import Any_

SLICE = 5000  # steps between two looks at the clock: milliseconds with numbers, tenths of a second with long strings

MEMORY = 48 << 20  # bytes of strings, lists and integers in one evaluation; up to a quarter more between two counts
ELEMENT = 36  # bytes of an element in a list that `with` builds: a pointer and a number


class Budgets(ABC):
    """Remaining time, steps and memory. Generated code calls the methods by name."""

    def __init__(self, limits: PolicyLimits) -> None:
        self.limits = limits
        self._weights: dict[int, tuple[Sequence[Any_], int]] = {}
        self._deadline = time.monotonic() + limits.seconds
        self._until_look = SLICE
        self._until_count = MEMORY
        self._used = 0
        self._allowed = limits.steps
        self.slice = min(SLICE, limits.steps)
        """Steps that generated code may count down before it calls `refill`."""
        self._outer: tuple[int, int] | None = None

    @abstractmethod
    def _held(self) -> int:
        """Return the bytes held in values."""

    def look(self, error: Exception | None = None) -> None:
        """Raise `Trouble` if the time is over, with `error`'s traceback."""
        if time.monotonic() > self._deadline:
            late = Trouble("limit", f"the evaluation takes longer than {self.limits.seconds:g} s", fatal=True)
            raise late.with_traceback(None if error is None else error.__traceback__)

    def turns(self, values: Sequence[Any_], most: int) -> Iterable[Any_]:
        """Iterate over values; check the time regularly."""
        return values if len(values) <= most else chain.from_iterable(self._watched(values, most))

    def _watched(self, values: Sequence[Any_], most: int) -> Iterator[Sequence[Any_]]:
        for start in range(0, len(values), most):
            self.look()
            yield values[start : start + most]

    def refill(self, left: int) -> int:
        """Return more steps. `left` is negative."""
        self._used += self.slice - left
        self.slice = 0
        self.look()
        if self._used > self._allowed:
            raise Trouble("limit", f"more than {self._allowed:,} steps")
        self.slice = max(0, min(SLICE, self._allowed - self._used))
        return self.slice

    def enter_step(self, left: int) -> int:
        """Start a guest's step of an outermost loop, with its own budget."""
        if self._outer is None:
            self._outer = (self._used + self.slice - max(left, 0), self._allowed)
        else:
            self.look()
        self._used = 0
        self._allowed = self.limits.guest_steps
        self.slice = min(SLICE, self._allowed)
        return self.slice

    def leave_steps(self, left: int) -> int:
        """End an outermost loop; return the steps left."""
        if self._outer is None:
            return left
        self._used, self._allowed = self._outer
        self._outer = None
        self.slice = max(0, min(SLICE, self._allowed - self._used))
        return self.slice

    def charge(self, steps: int) -> None:
        """Count work that depends on a value's size."""
        self._used += steps
        if self._used > self._allowed:
            raise Trouble("limit", f"more than {self._allowed:,} steps")
        self._until_look -= steps
        if self._until_look < 0:
            self._until_look = SLICE
            self.look()

    def build(self, size: int) -> None:
        """Count built bytes."""
        self._until_count -= size
        if self._until_count < 0:
            self.look()
            held = self._held()
            if held > MEMORY:
                raise Trouble("limit", f"strings, lists and large integers of more than {MEMORY >> 20} MiB", fatal=True)
            self._until_count = max(MEMORY - held, MEMORY >> 2)

    def too_deep(self) -> NoReturn:
        """Raise `Trouble` for too deeply nested calls."""
        raise Trouble("recursion", f"more than {self.limits.depth} nested calls", of_call=True)

    def grown(self, value: Any_) -> Any_:
        """Count a built value. Raise `Trouble` if too large."""
        kind = value.__class__
        if kind is int:
            if value.bit_length() > self.limits.integer_bits:
                raise Trouble("range", f"an integer of more than {self.limits.integer_bits} bits")
            self.charge(value.bit_length() >> 8)
            self.build(value.__sizeof__())
        elif kind is str:
            if len(value) > self.limits.string:
                raise Trouble("limit", f"a string of more than {self.limits.string:,} characters")
            self.charge(len(value) >> 6)
            self.build(value.__sizeof__())
        elif kind is list or kind is tuple:
            self._weigh(value)
            self.build(value.__sizeof__())
        return value

    def _weigh(self, value: Sequence[Any_]) -> int:
        weighed = self._weights.get(id(value))
        if weighed is not None:
            return weighed[1]
        self.charge(len(value) >> 3)
        weight = len(value)
        weights = self._weights
        nested = False
        for item in value:
            if item.__class__ is list or item.__class__ is tuple:
                nested = True
                weight += weights[id(item)][1] if id(item) in weights else len(item)
        if weight > self.limits.list:
            raise Trouble("limit", f"a list of more than {self.limits.list:,} elements")
        if nested:
            self._weights[id(value)] = (value, weight)
        return weight

    def add(self, left: Any_, right: Any_) -> Any_:
        """Add or concatenate, with at least one list."""
        if left.__class__ is list and right.__class__ is list:
            if len(left) + len(right) > self.limits.list:
                raise Trouble("limit", f"a list of more than {self.limits.list:,} elements")
            return self.grown(left + right)
        return left + right

    def mul(self, left: Any_, right: Any_) -> Any_:
        """Multiply or repeat, after a size check."""
        for value, times in ((left, right), (right, left)):
            if isinstance(value, str | list | tuple):
                if not isinstance(times, int):
                    raise TypeError
                count = max(0, times)
                size = len(value) if isinstance(value, str) else self._weigh(value)
                limit, kind = (self.limits.string, "string") if isinstance(value, str) else (self.limits.list, "list")
                if size * count > limit:
                    raise Trouble("limit", f"a {kind} of more than {limit:,} {'elements' if kind == 'list' else 'characters'}")
                return self.grown(value * count)
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > self.limits.integer_bits + 1:
            raise Trouble("range", f"an integer of more than {self.limits.integer_bits} bits")
        return left * right

    def shl(self, left: Any_, right: Any_) -> Any_:
        """Shift left, after a size check."""
        if not isinstance(left, int) or not isinstance(right, int):
            raise TypeError
        if right < 0:
            raise ValueError
        if left and left.bit_length() + right > self.limits.integer_bits:
            raise Trouble("range", f"an integer of more than {self.limits.integer_bits} bits")
        return left << right if left else 0

    def compared(self, *values: Any_) -> None:
        """Count comparisons of lists: each takes as long as the shorter list."""
        lists = [value for value in values if value.__class__ is list]
        if len(lists) > 1:
            weights = [self._weigh(item) for item in lists]
            self.charge((sum(weights) - max(weights)) >> 2)

    def collected(self, values: list[Any_]) -> list[Any_]:
        """Count the size of a list built by `with`."""
        self._weigh(values)
        self.build(ELEMENT * len(values))
        return values
