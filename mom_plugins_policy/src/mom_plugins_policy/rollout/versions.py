"""The versions of the policies that can be gone back to, and how they outlive a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Final

from pydantic import FailFast, Field, TypeAdapter

from mom_toolkit import PolicyChange, PolicyState, PolicyText

LARGEST_KEPT: Final = 8 << 20
"""Characters of texts that are kept on disk; of larger ones the oldest versions are left out. It is written at each change."""


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


Named = list[tuple[str, str | None, str]]
"""Texts by name: the name, the text's digest (None: removed), and where it comes from."""


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version as it is kept: with digests in the place of texts."""

    version: str
    time: Annotated[float, Field(ge=0, lt=1 << 36)]
    who: str
    what: str
    state: Named
    overlay: Named
    alone: bool


@dataclass(frozen=True, slots=True)
class KeptVersions:
    """As they are kept: each text once, by its digest, whichever versions have it; `count` is how many versions there have been."""

    count: Annotated[int, Field(ge=0, lt=1 << 53)]
    texts: dict[str, str]
    versions: Annotated[list[KeptVersion], FailFast()]

    def __post_init__(self) -> None:
        """Raises `ValueError` for a text that is not there."""
        for one in self.versions:
            missing = {digest for _, digest, _ in [*one.state, *one.overlay] if digest is not None} - self.texts.keys()
            if missing or any(digest is None for _, digest, _ in one.state):
                raise ValueError(f"version {one.version} lacks texts")


KEPT_VERSIONS: Final = TypeAdapter(KeptVersions)


def to_keep(versions: Sequence[Version], count: int) -> dict[str, object]:
    """What is kept of versions, for JSON.

    :param count: how many versions there have been
    """
    texts: dict[str, str] = {}
    size = 0
    kept: list[KeptVersion] = []

    def noted(named: Mapping[str, PolicyText | None]) -> Named:
        nonlocal size
        found: Named = []
        for name, text in named.items():
            digest = None if text is None else hashlib.sha256(text.text.encode("utf-8", "surrogatepass")).hexdigest()
            if text is not None and digest is not None and digest not in texts:
                texts[digest] = text.text
                size += len(text.text)
            found.append((name, digest, "" if text is None else text.origin))
        return found

    for one in reversed(versions):
        if size > LARGEST_KEPT:
            break
        change, overlay = one.change, one.overlay
        state = noted(one.state.texts)
        kept.append(KeptVersion(change.version, change.time, change.who, change.what, state, noted(overlay.texts), overlay.alone))
    return {"count": count, "texts": texts, "versions": [asdict(one) for one in reversed(kept)]}


def taken_up(kept: KeptVersions) -> list[Version]:
    """The versions that were kept."""

    def named(noted: Named) -> dict[str, PolicyText | None]:
        return {name: None if digest is None else PolicyText(kept.texts[digest], origin) for name, digest, origin in noted}

    versions = []
    for one in kept.versions:
        change = PolicyChange(one.version, one.time, one.who, one.what)
        state = {name: text for name, text in named(one.state).items() if text is not None}
        versions.append(Version(change, PolicyState(change.version, state), Overlay(named(one.overlay), one.alone)))
    return versions
