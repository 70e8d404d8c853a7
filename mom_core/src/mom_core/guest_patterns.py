"""Patterns of guests, as operators write them: of names (`db-*`), or of a property that its platform gives a guest (`flavor=m1.*`)."""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from mom_core.errors import MomError
from mom_core.model import Guest, Value, printable

NAME: Final = "name"
"""The property that a pattern without one is about."""

_PROPERTY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
"""A property's name in a pattern."""

REMEMBERED_GUESTS: Final = 32_768
"""For how many guests the matching patterns are remembered: three times those of the largest host, some 10 MiB at worst."""

_MAGIC: Final = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class GuestPattern:
    """A pattern of a property's whole text, case and all: `*`, `?`, `[abc]`. Of a property that is a list, one text must match."""

    FORM: ClassVar[str] = rf"^([^=]*|{_PROPERTY.pattern}=[\s\S]+)$"
    """What is written of a pattern, as a regular expression of JSON Schema."""

    property: str
    pattern: str

    @classmethod
    def of(cls, text: str) -> GuestPattern:
        """What is written as `PATTERN` of names, or `PROPERTY=PATTERN`.

        :raises MomError: for one that can match no guest
        """
        before, equals, pattern = text.partition("=")
        if not equals:
            return cls(NAME, text)
        shown = printable(text, 60)
        by_name = f"`{NAME}={shown}` for guests of that name"
        if not cls.is_property(before):
            message = f"'{printable(before, 40)}' before the = is no name of a property" if before else "there is no property before the ="
            raise MomError(message, hint=f"write such as `flavor=m1.*`, or {by_name}")
        if not pattern:
            hint = f"write `{before}=*` for guests that have the property, or {by_name}"
            raise MomError(f"'{shown}' matches no guest: no property is empty", hint=hint)
        return cls(before, pattern)

    @staticmethod
    def is_property(name: str) -> bool:
        """Whether a property of this name can be meant in a pattern."""
        return _PROPERTY.fullmatch(name) is not None

    @staticmethod
    def of_name(name: str) -> str:
        """The pattern that matches this name only, to be written into a configuration."""
        escaped = glob.escape(name)
        return f"{NAME}={escaped}" if "=" in name else escaped

    def texts(self, guest: Guest) -> tuple[str, ...]:
        """What it is matched with; nothing where the guest has no such property, or it is no text."""
        return _texts(guest.name if self.property == NAME else guest.properties.get(self.property))

    def matches(self, guest: Guest) -> bool:
        """Whether the guest is meant. Of many guests or patterns, `GuestPatterns` says it faster."""
        return any(fnmatch.fnmatchcase(text, self.pattern) for text in self.texts(guest))


def _texts(value: Value) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list | tuple) else ()


class GuestPatterns:
    """Several patterns, for many guests: what was found is remembered. May be used by several threads.

    :raises MomError: for a pattern that can match no guest
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        # A tool that writes this may name thousands of guests one by one: texts are looked up, only patterns are tried in turn.
        self._exact: dict[tuple[str, str], list[int]] = {}
        self._tried: list[tuple[int, str, Callable[[str], object]]] = []
        properties = {NAME: 0}
        for number, text in enumerate(patterns):
            one = GuestPattern.of(text)
            properties.setdefault(one.property, len(properties))
            if _MAGIC.search(one.pattern):
                self._tried.append((number, one.property, re.compile(fnmatch.translate(one.pattern)).match))
            else:
                self._exact.setdefault((one.property, one.pattern), []).append(number)
        self._properties = tuple(properties)
        self._found = lru_cache(maxsize=REMEMBERED_GUESTS)(self._find)

    def matching(self, guest: Guest) -> tuple[int, ...]:
        """The numbers of those that match a guest, in their order."""
        if not self._exact and not self._tried:  # as for most plugins: no name need be remembered for that
            return ()
        # A large host's guests are looked up several times in each cycle: what they are matched with is taken as it stands.
        if len(self._properties) == 1:
            return self._found(guest.name)
        values = guest.properties
        try:
            return self._found(guest.name, *[values.get(name) for name in self._properties[1:]])
        except TypeError:  # a list or a mapping cannot be looked up
            return self._found(guest.name, *[_texts(values.get(name)) for name in self._properties[1:]])

    def _find(self, *values: Value) -> tuple[int, ...]:
        texts = {name: _texts(value) for name, value in zip(self._properties, values, strict=True)}
        found = {number for name, told in texts.items() for text in told for number in self._exact.get((name, text), ())}
        found.update(number for number, name, match in self._tried if any(map(match, texts[name])))
        return tuple(sorted(found))
