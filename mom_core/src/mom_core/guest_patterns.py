"""Guest patterns: by name (`db-*`) or property (`flavor=m1.*`)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from mom_core.errors import MomError
from mom_core.model import Guest, Value
from mom_core.texts import printable

NAME: Final = "name"
"""Property that a pattern without `=` matches."""

_PROPERTY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")

REMEMBERED_GUESTS: Final = 32_768


@dataclass(frozen=True, slots=True)
class GuestPattern:
    """Case-sensitive pattern for the whole value of a property.

    `*`, `?` and `[abc]` are wildcards. If the value is a list, any item may match.
    """

    FORM: ClassVar[str] = rf"^([^=]*|{_PROPERTY.pattern}=[\s\S]+)$"
    """Regular expression of valid patterns, for JSON Schema."""

    property: str
    pattern: str

    @classmethod
    def of(cls, text: str) -> GuestPattern:
        """Parse `PATTERN` for names, or `PROPERTY=PATTERN`. Raise `MomError` if it can match no guest."""
        before, equals, pattern = text.partition("=")
        if not equals:
            return cls(NAME, text)
        if not cls.is_property(before) or not pattern:
            hint = f"write, for example, `flavor=m1.*`, or `{NAME}={printable(text, 60)}` for guests of that name"
            raise MomError("a pattern with = needs the name of a property before it, and text after it", hint=hint)
        return cls(before, pattern)

    @staticmethod
    def is_property(name: str) -> bool:
        """Return whether a property may have this name."""
        return _PROPERTY.fullmatch(name) is not None

    def texts(self, guest: Guest) -> tuple[str, ...]:
        """Return the guest's values of the property."""
        return _texts(guest.name if self.property == NAME else guest.properties.get(self.property))

    def matches(self, guest: Guest) -> bool:
        """Return whether the guest matches."""
        return any(fnmatch.fnmatchcase(text, self.pattern) for text in self.texts(guest))


def _texts(value: Value) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list | tuple) else ()


class GuestPatterns:
    """List of guest patterns. Thread-safe. The constructor raises the errors of `GuestPattern.of`."""

    def __init__(self, patterns: Sequence[str]) -> None:
        parsed = [GuestPattern.of(text) for text in patterns]
        self._properties = tuple(dict.fromkeys((NAME, *(pattern.property for pattern in parsed))))
        self._matchers = [(pattern.property, re.compile(fnmatch.translate(pattern.pattern)).match) for pattern in parsed]
        self._found = lru_cache(maxsize=REMEMBERED_GUESTS)(self._find)

    def matching(self, guest: Guest) -> tuple[int, ...]:
        """Return the indices of matching patterns, in order."""
        if not self._matchers:  # most plugins have no patterns: do not fill the cache
            return ()
        values = (guest.name, *(guest.properties.get(name) for name in self._properties[1:]))
        return self._found(*map(_texts, values))

    def _find(self, *values: tuple[str, ...]) -> tuple[int, ...]:
        texts = dict(zip(self._properties, values, strict=True))
        return tuple(number for number, (name, match) in enumerate(self._matchers) if any(map(match, texts[name])))
