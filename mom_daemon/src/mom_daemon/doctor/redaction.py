"""Takes out of texts what must not be passed on: secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from mom_core.plugins.secrets import MASK, MASKED_NAMES, SecretMask, leaves, names_secret, without_secrets

LONGEST_SECRET: Final = 16_384
"""Bytes of a file that a setting names as a key or token; a private key has two or three thousand."""

_HARMLESS: Final = r"(?!null\b|none\b|default\b|\"\"|''|[\"']?/(?:etc|run|var|usr|home|root|opt|srv|tmp|dev|proc|sys)/|[\"']?\*{4}|\{|\[)"
_A_VALUE: Final = r"(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;}]+)"

_NAMED: Final = re.compile(rf"({MASKED_NAMES}[\w-]*[\"']?(?:[ \t]*[:=][ \t]*|[ \t]{{2,}})){_HARMLESS}{_A_VALUE}", re.I)
"""name: value, name = value, "name": "value", and in columns. A path is no secret: what is in its file is."""


class Redaction:
    """A function from text to text.

    :param settings: of the plugins: what they hold as a secret is masked, and what stands in the files that they name as one
    """

    def __init__(self, settings: Iterable[BaseModel] = ()) -> None:
        self.masked = 0
        settings = list(settings)
        self._hide = SecretMask([*settings, *({"secret": text} for one in settings for text in _secrets_elsewhere(one))])

    def __call__(self, text: str) -> str:
        """The text without what is to be taken out."""
        before = text.count(MASK)
        text = _NAMED.sub(rf"\1{MASK}", without_secrets(self._hide(text)))
        self.masked += max(0, text.count(MASK) - before)
        return text


def _secrets_elsewhere(settings: BaseModel) -> Iterator[str]:
    """The content of files that settings name as a secret, and passwords in URIs."""
    for name, value in leaves(settings):
        if isinstance(value, Path | str) and names_secret(name, "x"):
            yield from _texts(Path(value))
        elif isinstance(value, str):
            yield from re.findall(r"://[^\s/@:]*:([^\s/@]+)@", value)


def _texts(path: Path) -> Iterator[str]:
    """The content of a secret's file; of a key, its lines."""
    with suppress(OSError, ValueError):
        if path.is_file():
            with path.open("rb") as file:
                content = file.read(LONGEST_SECRET).decode("utf-8", "replace")
            yield from (line.strip() for line in content.splitlines() if not line.startswith("-----"))
