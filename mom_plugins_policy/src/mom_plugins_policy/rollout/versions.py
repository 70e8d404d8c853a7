"""The versions of the policies that can be gone back to, and what a change has changed, as a unified diff for a person to read."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter

from mom_kvm import PolicyChange, PolicyState, PolicyText


@dataclass(frozen=True, slots=True)
class Overlay:
    """Changes that were made at run time: texts by name, None for a removed one. `alone`: nothing else counts."""

    texts: Mapping[str, PolicyText | None] = field(default_factory=dict)
    alone: bool = False

    def over(self, base: Mapping[str, PolicyText]) -> dict[str, PolicyText]:
        """Return the texts in force with these files and defaults, in name order."""
        merged: dict[str, PolicyText | None] = dict(self.texts) if self.alone else {**base, **self.texts}
        return {name: text for name, text in sorted(merged.items()) if text is not None}

    def changed(self, changes: Mapping[str, str | None], who: str, base: Mapping[str, PolicyText], *, replace_all: bool) -> Overlay:
        """With these changes on top. Only what files or defaults bring has to be noted as removed."""
        alone = self.alone or replace_all
        texts: dict[str, PolicyText | None] = {} if replace_all else dict(self.texts)
        texts.update({name: None if text is None else PolicyText(text, f"set by {who}") for name, text in changes.items()})
        noted = {name: text for name, text in texts.items() if text is not None or (name in base and not alone)}
        return Overlay(noted, alone)


OVERLAY: Final = TypeAdapter(Overlay)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the policies, and all that is needed to go back to it."""

    change: PolicyChange
    state: PolicyState
    overlay: Overlay


DIFFED_LINES: Final = 2000
"""Lines of a text, before and after together, up to which a diff is made: it takes some 50 ms for that many, and quadratically more."""

SHOWN_LINES: Final = 1000
"""Lines of a diff; the rest is counted."""


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return all texts that differ, in name order."""
    lines: list[str] = []
    for name in sorted({*before, *after}):
        old, new = (None if text is None else text.splitlines() for text in (before.get(name), after.get(name)))
        if before.get(name) == after.get(name):
            continue
        of, to = ("/dev/null" if text is None else name for text in (old, new))
        old, new = old or [], new or []
        small = len(old) + len(new) <= DIFFED_LINES
        told = [f"--- {of}", f"+++ {to}", f"{len(old)} lines became {len(new)}"]
        lines += difflib.unified_diff(old, new, of, to, lineterm="") if small else told
    if len(lines) > SHOWN_LINES:
        lines[SHOWN_LINES:] = [f"and {len(lines) - SHOWN_LINES} more lines"]
    return "".join(f"{line}\n" for line in lines)
