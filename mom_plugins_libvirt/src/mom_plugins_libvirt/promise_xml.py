"""Promises to a guest by its metadata, as they are written there: who makes promises of it understands it.

Metadata is part of the guest's description. It is written through the host's libvirt connection, when the guest is defined or with
`virsh metadata`; a guest cannot write it, and nothing that runs in the guest is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element

MOM_GUEST = "urn:mom:guest:1.0"
"""The namespace of mom's own element: `<mom:guest xmlns:mom="urn:mom:guest:1.0" class="gold" guarantee="6GiB"/>`."""

_PROPERTIES: Mapping[str, str] = {"class": "sla_class", "guarantee": "mem_guarantee"}
"""The element's attributes, and what the guest's properties with them are called."""

_LONGEST = 100
"""Characters. Names of classes, and sizes, are shorter; what is longer is cut, and then not understood."""

NO_PROMISES: Mapping[str, str] = {}


def promises_of(domain: Element) -> Mapping[str, str]:
    """The guest's properties that its metadata gives; none without mom's element."""
    element = domain.find(f"metadata/{{{MOM_GUEST}}}guest")
    if element is None:
        return NO_PROMISES
    return {name: text[:_LONGEST] for attribute, name in _PROPERTIES.items() if (text := element.get(attribute)) is not None}
