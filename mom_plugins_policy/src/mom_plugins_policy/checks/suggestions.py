"""Which known name may have been meant by an unknown one, found within limits: policies come from clients, too."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from difflib import get_close_matches
from itertools import islice
from typing import Final

_MOST: Final = 20  # unknown names that are looked up
_LONGEST: Final = 64  # characters of names that are compared: how long that takes grows faster than their square
_SECONDS: Final = 0.2  # for all of them together
_AT_ONCE: Final = 16  # known names, between two looks at the clock


class Suggestions:
    """Those of one run of the checks."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], str] = {}
        self._left = _SECONDS

    def of(self, what: str, name: str, known: Callable[[], Collection[str]]) -> str:
        """A question for a hint; empty where no known name is like this one, or to find one would take too long."""
        key = (what, name)
        if key not in self._told and len(self._told) < _MOST and len(name) <= _LONGEST:
            self._told[key] = self._found(name, known())
        return self._told.get(key, "")

    def _found(self, name: str, known: Collection[str]) -> str:
        began = time.monotonic()
        others = iter(sorted(one for one in known if one != name and len(one) <= _LONGEST))  # it may be bound elsewhere, and not here
        close: list[str] = []
        while time.monotonic() - began < self._left and (some := list(islice(others, _AT_ONCE))):
            close += get_close_matches(name, some, 1)
        self._left -= time.monotonic() - began
        return f"did you mean {best[0]}?" if (best := get_close_matches(name, close, 1)) else ""
