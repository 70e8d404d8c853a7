"""Assignment of service classes to guests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from mom_core import Guest, GuestSettings, printable
from mom_plugins_sla.classes import ServiceClass, safest
from mom_plugins_sla.settings import class_in

METADATA: Final = "sla_class"
"""Guest property: class from the guest's metadata or management system."""


class Assigned(NamedTuple):
    """Class and its source. `unknown` is the configured name if no such class exists."""

    name: str
    source: str
    unknown: str = ""

    @property
    def explanation(self) -> str:
        """Source of the class, and why mom replaced an unknown class."""
        return (
            f"{self.source}, which names the class {self.unknown}: that class does not exist, so mom uses the safest class"
            if self.unknown
            else self.source
        )


class ClassAssignment:
    """Rules that assign classes. The first source with a class counts: section `guests`, metadata, default."""

    def __init__(self, classes: Mapping[str, ServiceClass], default: str | None) -> None:
        self._classes, self._safest = classes, safest(classes)
        self._default = None if default is None else self._existing(default, "the default of the sla plugin")

    def of(self, guest: Guest, settings: GuestSettings) -> Assigned | None:
        """Return the guest's class, if any."""
        configured, metadata = class_in(settings), guest.properties.get(METADATA)
        if configured is not None:
            return self._existing(configured, "the section guests of the YAML file")
        if isinstance(metadata, str):
            return self._existing(metadata, "the guest's metadata")
        return self._default

    def of_all(self, guests: Sequence[Guest], settings_of: Callable[[Guest], GuestSettings]) -> dict[str, Assigned]:
        """Return classes keyed by guest id."""
        return {guest.id: assigned for guest in guests if (assigned := self.of(guest, settings_of(guest))) is not None}

    def _existing(self, name: str, source: str) -> Assigned:
        if name in self._classes:
            return Assigned(name, source)
        return Assigned(self._safest, source, printable(name, 40) or "an empty name")
