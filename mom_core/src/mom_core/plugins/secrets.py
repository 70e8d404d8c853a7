"""Masks secrets of plugins' settings in messages and logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from mom_core.model import Value

Item = TypeVar("Item")

MASK: Final = "**********"
"""As in pydantic."""

SHORTEST: Final = 4
"""Shorter secrets occur in ordinary words."""


SHORTEST_CALLED: Final = 8
"""Shortest value that is masked because of its setting's name."""

_SHORTEST_PART: Final = 12
"""Shortest path or query of a URL that is masked; `/hook` is no secret."""

_MASKED_NAMES: Final = r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|private[_-]?key|authorization|credentials?|cookie)"

_SECRET_NAME: Final = re.compile(rf"{_MASKED_NAMES}|key", re.I)

_SIGNED: Final = r"(?:sig|sign|signature|auth|code|key)"
"""Secret URL parameters, besides names of secret settings."""

_SHAPES: Final = (
    # Private keys, also within JSON, where line ends are \n.
    (re.compile(r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(-----END|\Z)", re.S), rf"\1 {MASK} \2"),
    # scheme://user:password@host, and scheme://token@host
    (re.compile(r"(?<=[a-z0-9+.-])(://[^\s/@:\"']*:)[^\s/@\"']+@", re.I), rf"\1{MASK}@"),
    (re.compile(r"(?<=[a-z0-9+.-])(://)[^\s/@:\"']{20,}@", re.I), rf"\1{MASK}@"),
    (re.compile(rf"([?&](?:[\w-]*{_MASKED_NAMES}[\w-]*|{_SIGNED})=)[^&\s\"'#]+", re.I), rf"\1{MASK}"),
    # --password X of a command, also in lists of YAML and JSON; but not FILE, as in advice.
    (
        re.compile(
            rf"(?<![\w-])(--?[\w-]{{0,40}}{_MASKED_NAMES}[\w-]{{0,40}}(?:=|[\"']?(?:\s*,\s*|\s+(?:-\s+)?))[\"']?)"
            r"(?![/{*-]|(?-i:[A-Z_]+)\b)[^\s\"',\]]+",
            re.I,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{4,}", re.I), rf"\1 {MASK}"),
)
"""No pattern begins with a repetition, which would take quadratic time."""


_OPTION: Final = re.compile(rf"--?[\w-]*(?:{_MASKED_NAMES}[\w-]*|\bkey)", re.I)
_ASSIGNED: Final = re.compile(rf"-{{0,2}}[\w-]*(?:{_MASKED_NAMES}[\w-]*|\bkey)=(.+)", re.I | re.S)
"""Option followed by its value, and option or variable that includes its value."""


_FILES_OF_KEYS: Final = (".pem", ".key", ".crt")


def without_secrets(text: str) -> str:
    """Mask the parts of a text that look like secrets."""
    for pattern, instead in _SHAPES:
        text = pattern.sub(instead, text)
    return text


def _names_secret(name: str, value: object) -> bool:
    # A path is no secret, whatever its name.
    if not isinstance(value, str) or not value or value.startswith("/") or value.endswith(_FILES_OF_KEYS):
        return False
    return _SECRET_NAME.search(name) is not None


def masked(value: Value, name: str = "") -> Value:
    """Mask a secret value, by its name or shape."""
    if isinstance(value, str):
        assigned = _ASSIGNED.fullmatch(value)
        if assigned and _names_secret("key", assigned[1]):
            return value.removesuffix(assigned[1]) + MASK
        return MASK if _names_secret(name, value) else without_secrets(value)
    if isinstance(value, Mapping):
        return {key: masked(inner, str(key)) for key, inner in value.items()}
    return [masked(inner, called) for called, inner in called_items(value, name)] if isinstance(value, list | tuple) else value


def called_items(values: Iterable[Item], name: str) -> Iterator[tuple[str, Item]]:
    """Yield each item with the name of the preceding option, else of the list."""
    option = ""
    for item in values:
        text = item if isinstance(item, str) else ""
        yield option if option and not text.startswith(("-", "{")) else name, item
        option = text if _OPTION.fullmatch(text) else ""


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, BaseModel):
        value = {key: getattr(value, key) for key in type(value).model_fields}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for called, inner in called_items(value, name):
            yield from _leaves(inner, called)
    else:
        yield name, value


def secrets_in(settings: object) -> Iterator[str]:
    """Yield declared secrets, and the paths and queries of secret URLs."""
    for _, value in _leaves(settings):
        if isinstance(value, Secret | SecretStr | SecretBytes):
            held = value.get_secret_value()
            text = held.decode(errors="replace") if isinstance(held, bytes) else str(held)
            yield text
            with suppress(ValueError):
                parts = urlsplit(text)
                yield from (part for part in (parts.path, parts.query) if parts.netloc and len(part) >= _SHORTEST_PART)


def _called_secrets(settings: object) -> Iterator[str]:
    for name, value in _leaves(settings):
        assigned = _ASSIGNED.fullmatch(value) if isinstance(value, str) else None
        if assigned and _names_secret("key", assigned[1]):
            yield assigned[1]
        elif isinstance(value, str) and _names_secret(name, value):
            yield from (value, *value.split())


class SecretMask:
    """Mask for known secrets in a text. Callable from any thread."""

    def __init__(self, settings: Iterable[object] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.learn(settings)

    def learn(self, settings: Iterable[object]) -> None:
        """Mask these secrets too; earlier ones may still be valid."""
        settings = list(settings)
        secrets = {secret for model in settings for secret in secrets_in(model) if len(secret) >= SHORTEST}
        secrets |= {text for model in settings for text in _called_secrets(model) if len(text) >= SHORTEST_CALLED}
        spelled = {json.dumps(secret)[1:-1] for secret in secrets}
        # Longest first: a secret may contain another.
        self._secrets = tuple(sorted({*self._secrets, *secrets, *spelled}, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """Mask the secrets in a text."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
