"""Budgets of an evaluation: time, steps, and sizes of the values that it builds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from mom_plugins_policy.language import limits
from mom_plugins_policy.language.errors import Trouble
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.values import Any_

_SLICE: Final = 1000  # steps between two looks at the clock: a millisecond with numbers, a tenth of a second with long strings

SMALL: Final = 1 << 63
"""Integers below this need no size check."""

_ELEMENT: Final = 36  # bytes of an element in a list that `with` builds: a pointer and a number


class Budgets:
    """Remaining time, steps and memory."""

    def __init__(self, seconds: float) -> None:
        self.left = 0
        """Steps until `refill` must be called."""
        self._weights: dict[int, tuple[Sequence[Any_], int]] = {}
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._memory = limits.MEMORY
        self._in_step = False
        self._allow(limits.STEPS)

    # --- time and steps --------------------------------------------------------------------------------------------------------

    def look(self, form: Form | None = None) -> None:
        """Raise `Trouble` if the evaluation has used up its time."""
        if time.monotonic() > self._deadline:
            raise Trouble("limit", f"the evaluation takes longer than {self._seconds:g} s", form, fatal=True)

    def _allow(self, steps: int) -> None:
        self.left = min(_SLICE, steps)
        self._reserve = steps - self.left

    def refill(self) -> None:
        """Check the time, and allow more steps. Raise `Trouble` if none are left."""
        self.look()
        self._reserve += self.left
        if self._reserve < 0:
            allowed = limits.GUEST_STEPS if self._in_step else limits.STEPS
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
        self._allow(limits.GUEST_STEPS)

    def leave_steps(self, steps: int) -> None:
        """End the outermost loop over guests, with `steps` left."""
        self._in_step = False
        self._allow(steps)

    # --- sizes -----------------------------------------------------------------------------------------------------------------

    def build(self, size: int) -> None:
        """Count the bytes of a new value. Raise `Trouble` if all values together exceed the limit."""
        self._memory -= size
        if self._memory < 0:
            raise Trouble("limit", f"strings, lists and large integers take more than {limits.MEMORY >> 20} MiB", fatal=True)

    def grown(self, value: Any_) -> Any_:
        """Count the size of a new value, and return the value. Raise `Trouble` if it is too large."""
        kind = value.__class__
        if kind is int:
            if value.bit_length() > limits.INTEGER_BITS:
                raise Trouble("range", f"an integer of more than {limits.INTEGER_BITS} bits")
            self.charge(value.bit_length() >> 8)
            self.build(value.__sizeof__())
        elif kind is str:
            if len(value) > limits.STRING:
                raise Trouble("limit", f"a string of more than {limits.STRING:,} characters")
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
        if weight > limits.LIST:
            raise Trouble("limit", f"a list of more than {limits.LIST:,} elements")
        if nested:
            self._weights[id(value)] = (value, weight)
        return weight

    def collected(self, values: list[Any_]) -> list[Any_]:
        """Count the size of a list built by `with`, and return the list."""
        self._weigh(values)
        self.build(_ELEMENT * len(values))
        return values
