"""The versions of the policies that can be gone back to, and how they outlive a restart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mom_core import PolicyChange, PolicyState, PolicyText

LARGEST_KEPT: Final = 8 << 20
"""Characters of texts that are kept on disk; of larger ones the oldest versions are left out. It is written at each change."""

NO_VERSIONS: Final = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""What comes of reading something else."""

_FORMAT: Final = 1


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


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the policies, and all that is needed to go back to it."""

    change: PolicyChange
    state: PolicyState
    overlay: Overlay


def encoded(versions: Sequence[Version], count: int) -> str:
    """As JSON: each text once, whichever versions have it.

    :param count: how many versions there have been
    """
    texts: dict[str, str] = {}
    size = 0
    kept: list[dict[str, object]] = []

    def noted(named: Mapping[str, PolicyText | None]) -> list[list[str | None]]:
        nonlocal size
        found: list[list[str | None]] = []
        for name, text in named.items():
            digest = None if text is None else hashlib.sha256(text.text.encode()).hexdigest()
            if text is not None and digest is not None and digest not in texts:
                texts[digest] = text.text
                size += len(text.text)
            found.append([name, digest, "" if text is None else text.origin])
        return found

    for one in reversed(versions):
        if size > LARGEST_KEPT:
            break
        change = {"version": one.change.version, "time": one.change.time, "who": one.change.who, "what": one.change.what}
        kept.append({**change, "state": noted(one.state.texts), "overlay": noted(one.overlay.texts), "alone": one.overlay.alone})
    return json.dumps({"format": _FORMAT, "count": count, "texts": texts, "versions": kept[::-1]}) + "\n"


def decoded(content: bytes) -> tuple[list[Version], int]:
    """What `encoded` made. Raises one of `NO_VERSIONS` for anything else."""
    found: Any = json.loads(content)
    if found["format"] != _FORMAT:
        raise ValueError("another format")
    texts = {str(digest): str(text) for digest, text in found["texts"].items()}

    def named(noted: list[list[str | None]]) -> dict[str, PolicyText | None]:
        return {str(name): None if digest is None else PolicyText(texts[digest], str(origin)) for name, digest, origin in noted}

    versions = []
    for one in found["versions"]:
        change = PolicyChange(str(one["version"]), float(one["time"]), str(one["who"]), str(one["what"]))
        state = {name: text for name, text in named(one["state"]).items() if text is not None}
        versions.append(Version(change, PolicyState(change.version, state), Overlay(named(one["overlay"]), bool(one["alone"]))))
    return versions, int(found["count"])
