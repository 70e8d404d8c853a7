"""Which guest is of which class, who said so, and what to do where that is not known: names in, names out."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_core import Guest, GuestSettings, printable
from mom_plugins_sla.classes import ServiceClass, safest
from mom_plugins_sla.settings import class_in

METADATA: Final = "sla_class"
"""The property of a guest with the class that its metadata, or the management system, says."""

REMEMBERED: Final = 32_768
"""Guests whose class is remembered: three times those of the largest host."""


class Assigned(NamedTuple):
    """A guest's class, by name; `unknown` is what was said instead of a class that there is, and `by` who said it."""

    name: str
    by: str
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class _Pattern:
    matches: Callable[[str], object]
    name: str


class Assigning:
    """The rules. The first that says something about a guest counts: the section `guests`, the guest's metadata, patterns, the default.

    A class that does not exist is the safest that does.
    """

    def __init__(self, classes: Mapping[str, ServiceClass], patterns: Mapping[str, str], default: str | None) -> None:
        self._classes = classes
        self._patterns = [_Pattern(re.compile(fnmatch.translate(pattern)).match, name) for pattern, name in patterns.items()]
        self._default = default
        self._safest = safest(classes)
        self._known: dict[tuple[str, object, object], Assigned | None] = {}

    @property
    def safest(self) -> str:
        """The class of guests whose class is unknown."""
        return self._safest

    def of(self, guest: Guest, settings: GuestSettings) -> Assigned | None:
        """The guest's class; None: it has none."""
        key = guest.name, class_in(settings), guest.properties.get(METADATA)
        if key in self._known:
            return self._known[key]
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        found = self._known[key] = self._find(guest.name, class_in(settings), guest.properties.get(METADATA))
        return found

    def of_all(self, guests: Sequence[Guest], settings_of: Callable[[Guest], GuestSettings]) -> dict[str, Assigned]:
        """The classes of all those that have one, by guest id."""
        return {guest.id: found for guest in guests if (found := self.of(guest, settings_of(guest))) is not None}

    def _find(self, guest: str, written: str | None, metadata: object) -> Assigned | None:
        if written is not None:
            return self._existing(written, "guests: in the YAML file")
        if isinstance(metadata, str):
            return self._existing(metadata, "the guest's metadata")
        for pattern in reversed(self._patterns):
            if pattern.matches(guest):
                return self._existing(pattern.name, "patterns of the plugin sla")
        return None if self._default is None else self._existing(self._default, "default of the plugin sla")

    def _existing(self, name: str, by: str) -> Assigned:
        if name in self._classes:
            return Assigned(name, by)
        return Assigned(self._safest, by, printable(name, 40) or "an empty name")
