"""The versions of the policies that can be gone back to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import TypeAdapter

from mom_toolkit import PolicyChange, PolicyState, PolicyText


@dataclass(frozen=True, slots=True)
class Overlay:
    """What was changed at run time: texts by name, None for a removed one. `alone`: nothing else counts."""

    texts: Mapping[str, PolicyText | None] = field(default_factory=dict)
    alone: bool = False

    def over(self, base: Mapping[str, PolicyText]) -> dict[str, PolicyText]:
        """What is in force with these files and defaults, in name order."""
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
