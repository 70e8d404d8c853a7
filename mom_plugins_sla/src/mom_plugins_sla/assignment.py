"""The classes of guests, who says so, and what to do where that is not known: names in, names out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from mom_core import Guest, GuestPatterns, GuestSettings, printable
from mom_plugins_sla.classes import ServiceClass, safest
from mom_plugins_sla.settings import class_in

METADATA: Final = "sla_class"
"""The property of a guest with the class that its metadata, or the management system, says."""

REMEMBERED: Final = 4096
"""What was said of guests, and the class that follows from it, is remembered."""


class Assigned(NamedTuple):
    """A guest's class, by name; `unknown` is what was said instead of a class that there is, and `by` who said it."""

    name: str
    by: str
    unknown: str = ""

    @property
    def told(self) -> str:
        """Who says it, and what is wrong with what was said."""
        return f"{self.by}, which says {self.unknown}: there is no such class, and this is the safest" if self.unknown else self.by


class ClassAssignment:
    """The rules. The first that says something about a guest counts: the section `guests`, the guest's metadata, patterns, the default.

    A class that does not exist is the safest that does.
    """

    def __init__(self, classes: Mapping[str, ServiceClass], patterns: Mapping[str, str], default: str | None) -> None:
        self._classes = classes
        self._patterns = GuestPatterns(list(patterns))
        self._named = [(name, f"patterns of the plugin sla ({printable(pattern, 60)})") for pattern, name in patterns.items()]
        self._default = default
        self._safest = safest(classes)
        self._assigned = lru_cache(REMEMBERED)(self._find)

    def of(self, guest: Guest, settings: GuestSettings) -> Assigned | None:
        """The guest's class; None: it has none."""
        metadata = guest.properties.get(METADATA)
        return self._assigned(self._patterns.matching(guest)[-1:], class_in(settings), metadata if isinstance(metadata, str) else None)

    def of_all(self, guests: Sequence[Guest], settings_of: Callable[[Guest], GuestSettings]) -> dict[str, Assigned]:
        """The classes of all those that have one, by guest id."""
        return {guest.id: found for guest in guests if (found := self.of(guest, settings_of(guest))) is not None}

    def _find(self, pattern: tuple[int, ...], written: str | None, metadata: str | None) -> Assigned | None:
        if written is not None:
            return self._existing(written, "guests: in the YAML file")
        if metadata is not None:
            return self._existing(metadata, "the guest's metadata")
        if pattern:
            return self._existing(*self._named[pattern[0]])
        return None if self._default is None else self._existing(self._default, "default of the plugin sla")

    def _existing(self, name: str, by: str) -> Assigned:
        if name in self._classes:
            return Assigned(name, by)
        return Assigned(self._safest, by, printable(name, 40) or "an empty name")
