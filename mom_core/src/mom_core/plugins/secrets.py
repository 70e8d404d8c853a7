"""Keeps secrets from plugins' settings out of what mom says, also where a plugin puts them into an error or into the log."""

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
"""What stands in a secret's place; pydantic shows the same."""

SHORTEST: Final = 4
"""Characters. Shorter secrets are not looked for: they stand in half of all words, and protect nothing."""


SHORTEST_CALLED: Final = 8
"""Characters of what is only called a secret: a wrong guess is to take no word out of messages."""

_SHORTEST_PART: Final = 12
"""Characters of a path or query. Shorter ones, such as `/hook`, are no secret, and stand elsewhere, too."""

MASKED_NAMES: Final = r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|private[_-]?key|authorization|credentials?|cookie)"
"""What secrets are called."""

_SECRET_NAME: Final = re.compile(rf"{MASKED_NAMES}|key", re.I)

_SIGNED: Final = r"(?:sig|sign|signature|auth|code|key)"
"""What the parameters of a URL are called that make it a secret, besides."""

_SHAPES: Final = (
    # Keys and certificates' keys, also within JSON, where line ends are written \n.
    (re.compile(r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(-----END|\Z)", re.S), rf"\1 {MASK} \2"),
    # scheme://user:password@host, and scheme://token@host
    (re.compile(r"(?<=[a-z0-9+.-])(://[^\s/@:\"']*:)[^\s/@\"']+@", re.I), rf"\1{MASK}@"),
    (re.compile(r"(?<=[a-z0-9+.-])(://)[^\s/@:\"']{20,}@", re.I), rf"\1{MASK}@"),
    (re.compile(rf"([?&](?:[\w-]*{MASKED_NAMES}[\w-]*|{_SIGNED})=)[^&\s\"'#]+", re.I), rf"\1{MASK}"),
    # --password X of a command, also in lists of YAML and JSON. FILE, as in advice, is none.
    (
        re.compile(
            rf"(?<![\w-])(--?[\w-]{{0,40}}{MASKED_NAMES}[\w-]{{0,40}}(?:=|[\"']?(?:\s*,\s*|\s+(?:-\s+)?))[\"']?)"
            r"(?![/{*-]|(?-i:[A-Z_]+)\b)[^\s\"',\]]+",
            re.I,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/._~=-]{4,}", re.I), rf"\1 {MASK}"),
)
"""What a secret looks like where nothing has said that it is one. None begins with a repetition: a long text would take the square of its
length."""


_OPTION: Final = re.compile(rf"--?[\w-]*(?:{MASKED_NAMES}[\w-]*|\bkey)", re.I)
_ASSIGNED: Final = re.compile(rf"-{{0,2}}[\w-]*(?:{MASKED_NAMES}[\w-]*|\bkey)=(.+)", re.I | re.S)
"""Arguments of commands: an option whose value is the next one, and one that has it, as variables of `env` do."""


_FILES_OF_KEYS: Final = (".pem", ".key", ".crt")
"""How names of files with keys end, also where they are given without their folder: no secret ends so."""


def without_secrets(text: str) -> str:
    """The text without what looks like a secret wherever it stands: keys, passwords and signatures in URLs, seeds."""
    for pattern, instead in _SHAPES:
        text = pattern.sub(instead, text)
    return text


def names_secret(name: str, value: object) -> bool:
    """True if a setting of this name holds a secret by the look of it. A path is none: what is in its file is."""
    if not isinstance(value, str) or not value or value.startswith("/") or value.endswith(_FILES_OF_KEYS):
        return False
    return _SECRET_NAME.search(name) is not None


def masked(value: Value, name: str = "") -> Value:
    """A setting as it was dumped, without what its name or its shape says is a secret though its plugin does not say so."""
    if isinstance(value, str):
        assigned = _ASSIGNED.fullmatch(value)
        if assigned and names_secret("key", assigned[1]):
            return value.removesuffix(assigned[1]) + MASK
        return MASK if names_secret(name, value) else without_secrets(value)
    if isinstance(value, Mapping):
        return {key: masked(inner, str(key)) for key, inner in value.items()}
    return [masked(inner, called) for called, inner in called_items(value, name)] if isinstance(value, list | tuple) else value


def called_items(values: Iterable[Item], name: str) -> Iterator[tuple[str, Item]]:
    """The items of a list with what each is called: a value of an option as that, if it is a list of arguments; else as the list is."""
    option = ""
    for one in values:
        found = one if isinstance(one, str) else ""
        yield option if option and not found.startswith(("-", "{")) else name, one
        option = found if _OPTION.fullmatch(found) else ""


def leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """All that is nested in settings, with what each is called."""
    if isinstance(value, BaseModel):
        value = {key: getattr(value, key) for key in type(value).model_fields}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for called, inner in called_items(value, name):
            yield from leaves(inner, called)
    else:
        yield name, value


def secrets_in(settings: object) -> Iterator[str]:
    """All secrets in settings, wherever they are nested. Of a URL, what opens something is its path and its query, too."""
    for _, value in leaves(settings):
        if isinstance(value, Secret | SecretStr | SecretBytes):
            held = value.get_secret_value()
            text = held.decode(errors="replace") if isinstance(held, bytes) else str(held)
            yield text
            with suppress(ValueError):
                parts = urlsplit(text)
                yield from (part for part in (parts.path, parts.query) if parts.netloc and len(part) >= _SHORTEST_PART)


def _called_secrets(settings: object) -> Iterator[str]:
    """The texts that settings hold under names that say that they are secret, as a whole and word by word."""
    for name, value in leaves(settings):
        assigned = _ASSIGNED.fullmatch(value) if isinstance(value, str) else None
        if assigned and names_secret("key", assigned[1]):
            yield assigned[1]
        elif isinstance(value, str) and names_secret(name, value):
            yield from (value, *value.split())


class SecretMask:
    """Function from text to text that masks known secrets. Any thread may call it."""

    def __init__(self, settings: Iterable[object] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.learn(settings)

    def learn(self, settings: Iterable[object]) -> None:
        """Mask the secrets of these settings too; those of earlier ones stay masked, as an old secret may still open something."""
        settings = list(settings)
        found = {secret for one in settings for secret in secrets_in(one) if len(secret) >= SHORTEST}
        found |= {text for one in settings for text in _called_secrets(one) if len(text) >= SHORTEST_CALLED}
        spelled = {json.dumps(secret)[1:-1] for secret in found}
        # The longest first: one may be part of another.
        self._secrets = tuple(sorted({*self._secrets, *found, *spelled}, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
