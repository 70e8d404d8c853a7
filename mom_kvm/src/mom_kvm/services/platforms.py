"""What a guest is to the platform that runs it, such as its flavor and project: properties, read from the guest's description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from xml.etree.ElementTree import Element

from mom_core import Guest, GuestPattern, PluginContext, printable

MOST_PROPERTIES: Final = 32
"""Of a guest: a platform tells a handful, and the owner of a guest may have a hand in them."""

LONGEST_TEXT: Final = 256
"""Characters of a property: the longest names of OpenStack and Kubernetes are 255 and 253. What is longer is cut."""

RESERVED: Final = frozenset(
    {"name", "uuid", "state", "pid", "cgroups", "pinned", "sized_by", "tags", "interval", "sla_class", "mem_guarantee"}
)
"""Properties that hypervisors give, and promises, which a guest has from mom's own element, a definition or the section `guests` only."""

_OTHERS: Final = RESERVED - {"tags"}


@dataclass(frozen=True, slots=True)
class GuestDescription:
    """What a hypervisor knows of a guest, in its own format; what it has not is None or empty. To be read only.

    `domain` is libvirt's domain XML, `options` are those of a definition of Proxmox VE by name, `labels` those of a Kubernetes object, for
    hypervisors of other distributions: mom's own have none.
    """

    domain: Element | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


class GuestPlatform(Protocol):
    """A platform, such as OpenStack, that says in the descriptions of its guests what they are to it."""

    def properties(self, description: GuestDescription) -> Mapping[str, str]:
        """Return properties of the guest by name, such as `{"flavor": "m1.small"}`; none where it is not one of this platform's.

        Operators match them in the section `guests` (`"flavor=m1.*"`), policies read them (`(guest.Prop "flavor" "")`). A name begins with
        a letter, and has letters, digits, `_`, `.` and `-`. Called when a description is read, from the hypervisor's thread: wait for
        nothing. What it raises is logged once; names that are wrong or of mom's own, and empty texts, are left out.
        """


def platform_properties(guest: Guest) -> dict[str, str | list[str]]:
    """Return the properties that a guest has from its platform, with its tags: texts, and lists of texts."""
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
    """The properties that all enabled platforms give a guest, bounded. Of two platforms with one property, the first in the YAML order
    counts. For hypervisors; may be used by several threads.

    :param context: the plugin's own
    """

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._told: set[str] = set()
        self._asked: Sequence[GuestPlatform] = ()

    def have_changed(self) -> bool:
        """Tell whether other platforms are enabled than at the last call: descriptions are to be read again. For one thread."""
        before, self._asked = self._asked, self._context.services(GuestPlatform)
        return self._asked != before

    def of(self, description: GuestDescription) -> dict[str, str]:
        """Return the properties by name; raise nothing."""
        texts: dict[str, str] = {}
        for platform in self._context.services(GuestPlatform):
            try:
                for name, text in platform.properties(description).items():
                    if self._is_property(name, text) and len(texts) < MOST_PROPERTIES:
                        texts.setdefault(name, text.strip()[:LONGEST_TEXT].encode("utf-8", "replace").decode())
            except Exception as error:  # noqa: BLE001  # another plugin's code, which reads what a guest's owner may have written
                self._tell(f"a platform cannot read a guest's description: {type(error).__name__}: {printable(str(error), 200)}")
        return texts

    def _is_property(self, name: object, text: object) -> bool:
        if not isinstance(name, str) or not isinstance(text, str) or not GuestPattern.is_property(name) or name in RESERVED:
            self._tell(f"a platform gives a guest what is no property of it: {printable(repr(name), 80)}")
            return False
        return bool(text.strip())

    def _tell(self, message: str) -> None:
        if message not in self._told and len(self._told) < MOST_PROPERTIES:
            self._told.add(message)
            self._context.log.warning("%s", message)
