"""Waits for threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

Value = TypeVar("Value")

LONGEST_PAUSE_SECONDS: Final = 0.05
"""Longest pause between two calls of `look`."""

LONGEST_STEP_SECONDS: Final = 10.0
"""Maximum time that counts between two calls of `look`: a virtual machine may pause while its clock continues."""


def wait_until(look: Callable[[], Value | None], explain: object = "it did not happen", seconds: float = 120.0) -> Value:
    """Return the first true value of `look`. Raise `AssertionError` if there is none within `seconds`.

    :param explain: text for the error, or a function that returns it
    """
    waited, last = 0.0, time.monotonic()
    while not (value := look()):
        now = time.monotonic()
        waited += min(now - last, LONGEST_STEP_SECONDS)
        last = now
        if waited > seconds:
            raise AssertionError(f"not within {seconds:g} s: {explain() if callable(explain) else explain}")
        time.sleep(min(LONGEST_PAUSE_SECONDS, 0.001 + waited / 10))
    return value
