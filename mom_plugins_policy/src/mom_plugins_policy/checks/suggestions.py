"""Which known name may have been meant by an unknown one, found within limits: policies come from clients, too."""

from __future__ import annotations

from collections.abc import Callable, Collection
from difflib import get_close_matches
from typing import Final

# What could be looked up with these takes half a second at most.
_MOST: Final = 10  # unknown names that are looked up
_COMPARED: Final = 400  # known names that one is compared with
_LONGEST: Final = 40  # characters of names that are compared: how long that takes grows faster than their square


class Suggestions:
    """Those of one run of the checks."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], str] = {}

    def of(self, what: str, name: str, known: Callable[[], Collection[str]]) -> str:
        """A question for a hint; empty where no known name is like this one, or to find one would take too long."""
        key = (what, name)
        if key not in self._told and len(self._told) < _MOST and len(name) <= _LONGEST:
            # One that is equal is bound elsewhere, and not here.
            others = sorted(one for one in known() if one != name and len(one) <= _LONGEST)[:_COMPARED]
            close = get_close_matches(name, others, 1)
            self._told[key] = f"did you mean {close[0]}?" if close else ""
        return self._told.get(key, "")
