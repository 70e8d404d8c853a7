"""The classes of guests, who says so, and what to do where that is not known: names in, names out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from mom_core import Guest, GuestPatterns, GuestSettings, printable
from mom_plugins_sla.classes import ServiceClass, safest
from mom_plugins_sla.settings import class_in

METADATA: Final = "sla_class"
"""The property of a guest with the class that its metadata, or the management system, says."""


class Assigned(NamedTuple):
    """Guest's class, by name; `unknown` is what was said instead of a class that there is, and `by` who said it."""

    name: str
    by: str
    unknown: str = ""

    @property
    def told(self) -> str:
        """Who says it, and what is wrong with what was said."""
        return f"{self.by}, which says {self.unknown}: there is no such class, and this is the safest" if self.unknown else self.by


class ClassAssignment:
    """Rules. The first that says something about a guest counts: the section `guests`, the guest's metadata, patterns, the default.

    A class that does not exist is the safest that does.
    """

    def __init__(self, classes: Mapping[str, ServiceClass], patterns: Mapping[str, str], default: str | None) -> None:
        self._classes, self._safest = classes, safest(classes)
        self._patterns = GuestPatterns(list(patterns))
        self._by_pattern = [
            self._existing(name, f"patterns of the plugin sla ({printable(pattern, 60)})") for pattern, name in patterns.items()
        ]
        self._default = None if default is None else self._existing(default, "default of the plugin sla")

    def of(self, guest: Guest, settings: GuestSettings) -> Assigned | None:
        """Return the guest's class; None: it has none."""
        written, metadata = class_in(settings), guest.properties.get(METADATA)
        if written is not None:
            return self._existing(written, "guests: in the YAML file")
        if isinstance(metadata, str):
            return self._existing(metadata, "the guest's metadata")
        matching = self._patterns.matching(guest)
        return self._by_pattern[matching[-1]] if matching else self._default

    def of_all(self, guests: Sequence[Guest], settings_of: Callable[[Guest], GuestSettings]) -> dict[str, Assigned]:
        """Return the classes of all those that have one, by guest id."""
        return {guest.id: found for guest in guests if (found := self.of(guest, settings_of(guest))) is not None}

    def _existing(self, name: str, by: str) -> Assigned:
        if name in self._classes:
            return Assigned(name, by)
        return Assigned(self._safest, by, printable(name, 40) or "an empty name")
