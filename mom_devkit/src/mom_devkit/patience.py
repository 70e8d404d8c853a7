"""How a test waits for what another thread or process does: until it is so, and not for a time that a busy machine makes too short."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

Found = TypeVar("Found")

LONGEST_PAUSE_SECONDS: Final = 0.05
"""Between two looks: each may start a program."""

LONGEST_STEP_SECONDS: Final = 10.0
"""So much of a look and the pause before it counts at most: a virtual machine may stand still for minutes, and its clock go on."""


def wait_until(look: Callable[[], Found | None], explain: object = "it did not happen", seconds: float = 120.0) -> Found:
    """The first value of `look` that counts as true. It looks often at first, then less and less often.

    :param explain: what is said if there is none in time; where that can be called, as what reads a log can, what it returns
    :raises AssertionError: if there is none within so many seconds
    """
    waited, last = 0.0, time.monotonic()
    while not (found := look()):
        now = time.monotonic()
        waited += min(now - last, LONGEST_STEP_SECONDS)
        last = now
        if waited > seconds:
            raise AssertionError(f"not within {seconds:g} s: {explain() if callable(explain) else explain}")
        time.sleep(min(LONGEST_PAUSE_SECONDS, 0.001 + waited / 10))
    return found
