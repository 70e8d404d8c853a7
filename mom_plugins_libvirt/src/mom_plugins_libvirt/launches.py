"""Guests about to start.

While libvirtd runs a guest's hook, it holds the guest's lock. Bulk calls that include the guest then wait.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Set
from typing import TYPE_CHECKING, Final

from mom_kvm import LaunchedGuest
from mom_plugins_libvirt.domain_xml import memory_of, parsed

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_LONGEST_NAME: Final = 1000


class LibvirtLaunches:
    """`LaunchReader` of the libvirt plugin."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocked_in_start_hook: Counter[str] = Counter()

    def blocked_in_start_hook(self) -> Set[str]:
        """Return the IDs of the guests whose start a hook delays now."""
        with self._lock:
            return self._blocked_in_start_hook.keys() | set()

    def read(self, description: str, identity: str) -> LaunchedGuest | None:
        """Return the guest that a hook's domain XML describes; None if invalid."""
        domain = parsed(description)
        if domain is None:
            return None
        memory, name = memory_of(domain), (domain.findtext("name") or "")[:_LONGEST_NAME]
        if not memory or not name:
            return None
        return LaunchedGuest(name, memory, _uuid(domain), _why_none(domain))

    def launches(self, guest: LaunchedGuest) -> None:
        """Record that a hook delays the guest's start."""
        with self._lock:
            self._blocked_in_start_hook[guest.id] += 1

    def launched(self, guest: LaunchedGuest) -> None:
        """Record that the hook no longer delays the guest's start."""
        with self._lock:
            self._blocked_in_start_hook[guest.id] -= 1
            self._blocked_in_start_hook += Counter()  # drop zero counts


def _uuid(domain: Element) -> str:
    try:
        return str(uuid.UUID((domain.findtext("uuid") or "").strip()))
    except ValueError:
        return ""


def _why_none(domain: Element) -> str:
    pages = domain.findall("memoryBacking/hugepages/page")
    if domain.find("memoryBacking/hugepages") is None or (pages and all(page.get("nodeset") for page in pages)):
        return ""
    return "its memory is in huge pages, which the host reserves separately"
