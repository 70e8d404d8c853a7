"""Properties from a guest's platform, such as flavor and project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol
from xml.etree.ElementTree import Element

from mom_core import Guest, GuestPattern, PluginContext, printable

_MOST_PROPERTIES: Final = 32
"""Maximum number of a guest's properties, because the guest's owner may influence them."""

_LONGEST_TEXT: Final = 256
"""Maximum length of a property. Names of OpenStack and Kubernetes have up to 255 characters."""

RESERVED: Final = frozenset(
    {"name", "uuid", "state", "pid", "cgroups", "pinned", "sized_by", "tags", "interval", "sla_class", "mem_guarantee"}
)
"""Properties that platforms cannot set: hypervisors set them, or they contain promises."""

_OTHERS: Final = RESERVED - {"tags"}


@dataclass(frozen=True, slots=True)
class GuestDescription:
    """Description of a guest: libvirt's domain XML (`domain`), or the options of a Proxmox VE definition (`options`). Read-only."""

    UNREAD: ClassVar[str] = "the guest's description has not been read yet"
    """Reason in `Guest.blocked`, under `*`, while the guest's guarantee is unknown."""

    domain: Element | None = None
    options: Mapping[str, str] = field(default_factory=dict)


class GuestPlatform(Protocol):
    """Platform, such as OpenStack, that writes into guests' descriptions."""

    def properties(self, description: GuestDescription) -> Mapping[str, str]:
        """Return properties such as `{"flavor": "m1.small"}`; none for a guest of another platform. Return without waiting.

        Operators match properties in the section `guests` (`"flavor=m1.*"`), and policies read them (`(guest.Prop "flavor" "")`). A name
        must begin with a letter, and contain only letters, digits, `_`, `.` and `-`. mom drops other and reserved names.
        """


class PlatformProperties:
    """Properties from all enabled platforms; the first platform in YAML order wins. Thread-safe."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._told: set[str] = set()
        self._asked: Sequence[GuestPlatform] = ()

    def have_changed(self) -> bool:
        """Return whether the list of platforms has changed since the last call. Call this from one thread only."""
        before, self._asked = self._asked, self._context.services(GuestPlatform)
        return self._asked != before

    @staticmethod
    def listed(guest: Guest) -> dict[str, str | list[str]]:
        """Return a guest's properties from its platform, and its tags."""
        texts: dict[str, str | list[str]] = {}
        for name, value in guest.properties.items():
            if name in _OTHERS:
                continue
            if isinstance(value, str):
                texts[name] = value
            elif isinstance(value, list | tuple):
                texts[name] = [text for text in value if isinstance(text, str)]
        return texts

    def of(self, description: GuestDescription) -> dict[str, str]:
        """Return a guest's properties, keyed by name. Errors of platforms are only logged."""
        texts: dict[str, str] = {}
        for platform in self._context.services(GuestPlatform):
            try:
                for name, text in platform.properties(description).items():
                    if self._is_property(name, text) and len(texts) < _MOST_PROPERTIES:
                        texts.setdefault(name, text.strip()[:_LONGEST_TEXT].encode("utf-8", "replace").decode())
            except Exception as error:  # noqa: BLE001  # another plugin's code with untrusted input
                self._tell(f"a platform cannot read a guest's description: {type(error).__name__}: {printable(str(error), 200)}")
        return texts

    def _is_property(self, name: str, text: str) -> bool:
        if not GuestPattern.is_property(name) or name in RESERVED:
            self._tell(f"a platform returns a guest property with an invalid or reserved name: {printable(repr(name), 80)}")
            return False
        return bool(text.strip())

    def _tell(self, message: str) -> None:
        if message not in self._told and len(self._told) < _MOST_PROPERTIES:
            self._told.add(message)
            self._context.log.warning("%s", message)
