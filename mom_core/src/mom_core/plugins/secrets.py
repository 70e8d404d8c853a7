"""Masks secrets of plugins' settings in messages and logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from mom_core.model import Value

MASK: Final = "**********"

SHORTEST: Final = 4
"""Minimum length of a masked secret: shorter ones occur in ordinary words."""

_SHORTEST_PART: Final = 12

_MASKED_NAMES: Final = r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|private[_-]?key|authorization|credentials?|cookie)"

_NAME: Final = rf"[\w-]{{0,40}}{_MASKED_NAMES}[\w-]{{0,40}}"

_NO_PATH: Final = r"(?!/|[^\s\"']{1,200}\.(?:pem|key|crt)\b)"

_NO_VALUE: Final = rf"{_NO_PATH}(?![{{*-]|(?-i:[A-Z_]+)\b)"

_SHAPES: Final = (
    # Private keys, also within JSON, where line ends are \n.
    (re.compile(r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(-----END|\Z)", re.S), rf"\1 {MASK} \2"),
    # scheme://user:password@host, and scheme://token@host
    (re.compile(r"(?<=[a-z0-9+.-])(://[^\s/@:\"']*:)[^\s/@\"']+@", re.I), rf"\1{MASK}@"),
    (re.compile(r"(?<=[a-z0-9+.-])(://)[^\s/@:\"']{20,}@", re.I), rf"\1{MASK}@"),
    (re.compile(r"([?&](?:sig|sign|signature|auth|code|key)=)[^&\s\"'#]+", re.I), rf"\1{MASK}"),
    # password=X, and --password X of a command, also in lists of YAML and JSON
    (re.compile(rf"(?<![\w-])({_NAME}=[\"']?){_NO_VALUE}[^&\s\"'#,\]]+", re.I), rf"\1{MASK}"),
    (re.compile(rf"(?<![\w-])(--?{_NAME}[\"']?(?:\s*,\s*|\s+(?:-\s+)?)[\"']?){_NO_VALUE}[^\s\"',\]]+", re.I), rf"\1{MASK}"),
    # "password": "X" and "passwords": ["X", "Y"] of JSON
    (re.compile(rf"(\"(?:{_NAME}|key)\": \"){_NO_PATH}(?:[^\"\\]|\\.)+(?=\")", re.I), rf"\1{MASK}"),
    (re.compile(rf"(\"{_NAME}\": \[)\"[^\]]+", re.I), rf'\1"{MASK}"'),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{4,}", re.I), rf"\1 {MASK}"),
)


def without_secrets(text: str) -> str:
    """Mask the parts of a text that look like secrets."""
    for pattern, instead in _SHAPES:
        text = pattern.sub(instead, text)
    return text


def masked(settings: Mapping[str, object]) -> dict[str, Value]:
    """Return a copy of JSON settings. Mask values that look like secrets."""
    shown: dict[str, Value] = json.loads(without_secrets(json.dumps(settings)))
    return shown


def secrets_in(value: object) -> Iterator[str]:
    """Yield the declared secrets in settings. Of a secret URL, also yield path and query."""
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from secrets_in(inner)
    elif isinstance(value, Secret | SecretStr | SecretBytes):
        held = value.get_secret_value()
        text = held.decode(errors="replace") if isinstance(held, bytes) else str(held)
        yield text
        with suppress(ValueError):
            parts = urlsplit(text)
            yield from (part for part in (parts.path, parts.query) if parts.netloc and len(part) >= _SHORTEST_PART)


class SecretMask:
    """Mask for known secrets in a text. Thread-safe."""

    def __init__(self, settings: Iterable[object] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.learn(settings)

    def learn(self, settings: Iterable[object]) -> None:
        """From now on, also mask these settings' secrets."""
        secrets = {secret for model in settings for secret in secrets_in(model) if len(secret) >= SHORTEST}
        spelled = {json.dumps(secret)[1:-1] for secret in secrets}
        # Longest first: a secret may contain another.
        self._secrets = tuple(sorted({*self._secrets, *secrets, *spelled}, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """Mask the secrets in a text."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
