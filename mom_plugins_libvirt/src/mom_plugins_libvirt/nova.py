"""The nova plugin: properties from nova's metadata in the domain XML (libvirt-driver-domain-metadata)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element

from mom_core import PluginContext, PluginSettings, Suggestion, hookimpl
from mom_kvm import GuestDescription, GuestPlatform

_NAMESPACES: Final = tuple(f"http://openstack.org/xmlns/libvirt/nova/{version}" for version in ("1.1", "1.0"))

_TEXTS: Final = {
    "display_name": ("name", ""),
    "flavor": ("flavor", "name"),
    "flavor_id": ("flavor", "id"),
    "project": ("owner/project", ""),
    "project_id": ("owner/project", "uuid"),
    "user": ("owner/user", ""),
    "user_id": ("owner/user", "uuid"),
}
"""For each guest property: the element under `<nova:instance>`, and the element's attribute (empty for its text)."""

_SIGNS: Final = ("var/lib/nova/instances", "etc/nova/nova-compute.conf", "etc/kolla/nova-compute", "etc/nova/nova.conf")


class NovaPlugin:
    """Reader of flavor, project and name of OpenStack nova's instances. Patterns in settings can select guests by them."""

    def __init__(self, settings: PluginSettings, context: PluginContext) -> None:
        pass

    @staticmethod
    @hookimpl
    def mom_suggest(root: Path) -> Suggestion | None:
        sign = next((sign for sign in _SIGNS if (root / sign).exists()), None)
        return None if sign is None else Suggestion(f"there is /{sign}: this is a host of OpenStack nova", order=23)

    @hookimpl
    def mom_services(self) -> Mapping[type, Any]:
        return {GuestPlatform: self}

    def properties(self, description: GuestDescription) -> Mapping[str, str]:
        """Return a nova instance's properties; an empty mapping for other guests."""
        domain = description.domain
        if domain is None:
            return {}
        for uri in _NAMESPACES:
            instance = domain.find(f"metadata/{{{uri}}}instance")
            if instance is not None:
                texts = {name: _text(instance, uri, path, attribute) for name, (path, attribute) in _TEXTS.items()}
                return {name: text for name, text in texts.items() if text}
        return {}


def _text(instance: Element, uri: str, path: str, attribute: str) -> str | None:
    element = instance.find("/".join(f"{{{uri}}}{step}" for step in path.split("/")))
    return None if element is None else element.get(attribute) if attribute else element.text
