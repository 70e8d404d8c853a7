"""Takes out of texts what must not be passed on: secrets always, names of guests and of this host where that is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from mom_core import MASK, MASKED_NAMES, Hiding, names_secret, without_secrets

SHORTEST: Final = 8
"""Characters of what is only called a secret. Shorter texts stand in other words, too."""

LONGEST_SECRET: Final = 16_384
"""Bytes of a file that a setting names as a key or token; a private key has two or three thousand."""

_HARMLESS: Final = r"(?!null\b|none\b|default\b|\"\"|''|[\"']?/(?:etc|run|var|usr|home|root|opt|srv|tmp|dev|proc|sys)/|[\"']?\*{4}|\{|\[)"
_A_VALUE: Final = r"(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}]+)"

_NAMED: Final = re.compile(rf"({MASKED_NAMES}[\w-]*[\"']?(?:[ \t]*[:=][ \t]*|[ \t]{{2,}})){_HARMLESS}{_A_VALUE}", re.I)
"""name: value, name = value, "name": "value", and in columns. A path is no secret: what is in its file is."""

_UUID: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I)


class Redaction:
    """A function from text to text.

    :param settings: of the plugins: what they hold as a secret is masked, and what stands in the files that they name as one
    """

    def __init__(self, settings: Iterable[BaseModel] = ()) -> None:
        self.masked = 0
        settings = list(settings)
        self._hide = Hiding(settings)
        found = {text for one in settings for text in _secrets_by_name(one)}
        self._secrets = sorted((text for text in found if len(text) >= SHORTEST), key=len, reverse=True)
        self._names: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None
        self._uuids: dict[str, str] | None = None

    def replace_names(self, names: Mapping[str, str]) -> None:
        """Write these words instead of those, wherever they stand by themselves; and a number for each UUID.

        A name without letters and digits, such as the pattern `*`, tells nothing, and stands for something else elsewhere.
        """
        self._names = {name: word for name, word in names.items() if any(map(str.isalnum, name))}
        self._uuids = {}
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile(r"(?<![\w])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w])") if longest_first else None

    def __call__(self, text: str) -> str:
        """The text without what is to be taken out."""
        before = text.count(MASK)
        text = self._hide(text)
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        text = _NAMED.sub(rf"\1{MASK}", without_secrets(text))
        self.masked += max(0, text.count(MASK) - before)
        uuids = self._uuids
        if uuids is None:
            return text
        if self._pattern is not None:
            text = self._pattern.sub(lambda match: self._names[match[0]], text)
        return _UUID.sub(lambda match: uuids.setdefault(match[0].lower(), f"uuid-{len(uuids) + 1}"), text)


def _secrets_by_name(value: object, name: str = "") -> Iterable[str]:
    """What settings hold under a name that says so, or what stands in the file that they name there; and passwords in URIs."""
    if isinstance(value, BaseModel):
        for inner in type(value).model_fields:
            yield from _secrets_by_name(getattr(value, inner), inner)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets_by_name(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets_by_name(inner, name)
    elif isinstance(value, Path | str) and names_secret(name, "x"):
        yield from _texts(Path(value))
        if names_secret(name, str(value)):
            yield from (str(value), *str(value).split())
    elif isinstance(value, str) and "://" in value:
        yield from re.findall(r"://[^\s/@:]*:([^\s/@]+)@", value)


def _texts(path: Path) -> Iterable[str]:
    """What a secret's file holds, as a whole and, for keys, by lines."""
    try:
        if not path.is_file():
            return
        with path.open("rb") as file:
            content = file.read(LONGEST_SECRET).decode("utf-8", "replace").strip()
    except (OSError, ValueError):
        return
    yield from (text for text in {content, *content.splitlines()} if not text.startswith("-----"))
