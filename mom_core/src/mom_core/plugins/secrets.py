"""Keeps secrets from plugins' settings out of what mom says, also where a plugin puts them into an error or into the log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from pydantic import BaseModel, SecretBytes, SecretStr

MASK: Final = "**********"
"""What stands in a secret's place; pydantic shows the same."""

SHORTEST: Final = 4
"""Characters. Shorter secrets are not looked for: they stand in half of all words, and protect nothing."""


def secrets_in(value: object) -> Iterator[str]:
    """All secrets in settings, wherever they are nested."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, SecretBytes):
        yield value.get_secret_value().decode(errors="replace")
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from secrets_in(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from secrets_in(inner)


class Hiding:
    """A function from text to text, that masks the secrets that it was told of. Safe to call from all threads."""

    def __init__(self, settings: Iterable[object] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.learn(settings)

    def learn(self, settings: Iterable[object]) -> None:
        """Mask the secrets of these settings too; those of earlier ones stay masked, as an old secret may still open something."""
        found = {secret for one in settings for secret in secrets_in(one) if len(secret) >= SHORTEST}
        spelled = {json.dumps(secret)[1:-1] for secret in found}
        # The longest first: one may be part of another.
        self._secrets = tuple(sorted({*self._secrets, *found, *spelled}, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
