"""Properties from the platform that runs a guest, such as flavor and project, read from the guest's description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from xml.etree.ElementTree import Element

from mom_core import Guest, GuestPattern, PluginContext, printable

_MOST_PROPERTIES: Final = 32
"""Most properties of a guest: platforms have a handful, and a guest's owner may influence them."""

_LONGEST_TEXT: Final = 256
"""Most characters of a property; longer ones are cut. The longest names of OpenStack and Kubernetes have 255 and 253."""

RESERVED: Final = frozenset(
    {"name", "uuid", "state", "pid", "cgroups", "pinned", "sized_by", "tags", "interval", "sla_class", "mem_guarantee"}
)
"""Properties of hypervisors, and promises, which come only from mom's own element, a definition or the section `guests`."""

_OTHERS: Final = RESERVED - {"tags"}


@dataclass(frozen=True, slots=True)
class GuestDescription:
    """A hypervisor's description of a guest in its own format; missing parts are None or empty. Read-only.

    `domain` is libvirt's domain XML, `options` those of a Proxmox VE definition by name, `labels` those of a Kubernetes object, for
    hypervisors of other distributions: mom's own have none.
    """

    domain: Element | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class GuestPlatform(Protocol):
    """Platform, such as OpenStack, that writes into guests' descriptions."""

    def properties(self, description: GuestDescription) -> Mapping[str, str]:
        """Return properties of the guest by name, such as `{"flavor": "m1.small"}`; none for another platform's guest.

        Operators match them in the section `guests` (`"flavor=m1.*"`), policies read them (`(guest.Prop "flavor" "")`). A name begins with
        a letter, and has letters, digits, `_`, `.` and `-`. Called from the hypervisor's thread when a description is read: do not wait.
        Errors are logged once; invalid or reserved names and empty texts are left out.
        """


def platform_properties(guest: Guest) -> dict[str, str | list[str]]:
    """Return a guest's platform properties and tags: texts, and lists of texts."""
    texts: dict[str, str | list[str]] = {}
    for name, value in guest.properties.items():
        if name in _OTHERS:
            continue
        if isinstance(value, str):
            texts[name] = value
        elif isinstance(value, list | tuple):
            texts[name] = [text for text in value if isinstance(text, str)]
    return texts


class PlatformProperties:
    """Properties from all enabled platforms, bounded. The first platform in the YAML order wins. For hypervisors, and several threads.

    :param context: the plugin's own
    """

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._told: set[str] = set()
        self._asked: Sequence[GuestPlatform] = ()

    def have_changed(self) -> bool:
        """Tell whether other platforms are enabled than at the last call: descriptions must be read again. For one thread."""
        before, self._asked = self._asked, self._context.services(GuestPlatform)
        return self._asked != before

    def of(self, description: GuestDescription) -> dict[str, str]:
        """Return the properties by name; raise nothing."""
        texts: dict[str, str] = {}
        for platform in self._context.services(GuestPlatform):
            try:
                for name, text in platform.properties(description).items():
                    if self._is_property(name, text) and len(texts) < _MOST_PROPERTIES:
                        texts.setdefault(name, text.strip()[:_LONGEST_TEXT].encode("utf-8", "replace").decode())
            except Exception as error:  # noqa: BLE001  # another plugin's code, which reads what a guest's owner may have written
                self._tell(f"a platform cannot read a guest's description: {type(error).__name__}: {printable(str(error), 200)}")
        return texts

    def _is_property(self, name: object, text: object) -> bool:
        if not isinstance(name, str) or not isinstance(text, str) or not GuestPattern.is_property(name) or name in RESERVED:
            self._tell(f"a platform gives a guest what is no property of it: {printable(repr(name), 80)}")
            return False
        return bool(text.strip())

    def _tell(self, message: str) -> None:
        if message not in self._told and len(self._told) < _MOST_PROPERTIES:
            self._told.add(message)
            self._context.log.warning("%s", message)
