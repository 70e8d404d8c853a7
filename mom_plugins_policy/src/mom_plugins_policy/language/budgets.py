"""Budgets of an evaluation: time, steps, and sizes of the values that it builds."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from mom_plugins_policy.language.errors import Trouble
from mom_plugins_policy.language.limits import PolicyLimits
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.values import Any_

_SLICE: Final = 1000  # steps between two looks at the clock: a millisecond with numbers, a tenth of a second with long strings

SMALL: Final = 1 << 63
"""Integers below this need no size check."""

MEMORY: Final = 48 << 20
"""Bytes that strings, lists and integers may take in one evaluation."""

_ELEMENT: Final = 36  # bytes of an element in a list that `with` builds: a pointer and a number


class Budgets(ABC):
    """Remaining time, steps and memory."""

    def __init__(self, limits: PolicyLimits) -> None:
        self.limits = limits
        self.left = 0
        """Steps until `refill` must be called."""
        self._weights: dict[int, tuple[Sequence[Any_], int]] = {}
        self._deadline = time.monotonic() + limits.seconds
        self._until_count = MEMORY
        self._in_step = False
        self._allow(limits.steps)

    @abstractmethod
    def _held(self) -> int:
        """Return how many bytes the evaluation's values take now."""

    # --- time and steps --------------------------------------------------------------------------------------------------------

    def look(self, form: Form | None = None) -> None:
        """Raise `Trouble` if the evaluation has used up its time."""
        if time.monotonic() > self._deadline:
            raise Trouble("limit", f"the evaluation takes longer than {self.limits.seconds:g} s", form, fatal=True)

    def _allow(self, steps: int) -> None:
        self.left = min(_SLICE, steps)
        self._reserve = steps - self.left

    def refill(self) -> None:
        """Check the time, and allow more steps. Raise `Trouble` if none are left."""
        self.look()
        self._reserve += self.left
        if self._reserve < 0:
            allowed = self.limits.guest_steps if self._in_step else self.limits.steps
            raise Trouble("limit", f"more than {allowed:,} steps")
        self._allow(self._reserve)

    def charge(self, steps: int) -> None:
        """Count steps for work that grows with a value's size."""
        self.left -= steps
        if self.left < 0:
            self.refill()

    def enter_steps(self, guests: int) -> int | None:
        """Begin a loop over guests. Return the steps kept for the code after the loop; None if this loop is inside another one."""
        if self._in_step:
            return None
        self._in_step = True
        return self.left + self._reserve - guests

    def next_step(self) -> None:
        """Begin the evaluation for the next guest, with a new budget."""
        self.look()
        self._allow(self.limits.guest_steps)

    def leave_steps(self, steps: int) -> None:
        """End the outermost loop over guests, with `steps` left."""
        self._in_step = False
        self._allow(steps)

    # --- sizes -----------------------------------------------------------------------------------------------------------------

    def build(self, size: int) -> None:
        """Count the bytes of a new value. Raise `Trouble` if all values together exceed `MEMORY`."""
        self._until_count -= size
        if self._until_count < 0:
            self.look()
            held = self._held()
            if held > MEMORY:
                raise Trouble("limit", f"strings, lists and large integers take more than {MEMORY >> 20} MiB", fatal=True)
            self._until_count = max(MEMORY - held, MEMORY >> 2)

    def grown(self, value: Any_) -> Any_:
        """Count the size of a new value, and return the value. Raise `Trouble` if it is too large."""
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

    def collected(self, values: list[Any_]) -> list[Any_]:
        """Count the size of a list built by `with`, and return the list."""
        self._weigh(values)
        self.build(_ELEMENT * len(values))
        return values

    def compare(self, values: Sequence[Any_]) -> None:
        """Count steps for comparing lists, in proportion to the shorter list."""
        lists = [value for value in values if value.__class__ is list]
        if len(lists) > 1:
            weights = [self._weigh(item) for item in lists]
            self.charge((sum(weights) - max(weights)) >> 2)
