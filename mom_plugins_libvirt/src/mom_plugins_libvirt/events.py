"""Guests' events. An event only marks a guest for the next bulk call. Some events also start a cycle."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from mom_core import printable
from mom_kvm import Resizes

LIFECYCLE = "lifecycle"
BALLOON = "balloon-change"

STARTED = 2
"""Value of virDomainEventType."""

EVENT_KINDS: Mapping[str, str] = {
    LIFECYCLE: "LIFECYCLE",
    BALLOON: "BALLOON_CHANGE",
    "device-added": "DEVICE_ADDED",
    "device-removed": "DEVICE_REMOVED",
    "memory-size-change": "MEMORY_DEVICE_SIZE_CHANGE",
    "agent-lifecycle": "AGENT_LIFECYCLE",
    "job-completed": "JOB_COMPLETED",
    "migration-iteration": "MIGRATION_ITERATION",
    "tunable": "TUNABLE",
    "metadata-change": "METADATA_CHANGE",
}
"""Mapping to libvirt's constants, without `VIR_DOMAIN_EVENT_ID_`. mom polls if a kind is missing."""

_ACTIVE = {2: "started", 3: "suspended", 4: "resumed", 5: "stopped", 6: "shut down", 7: "suspended", 8: "crashed"}
"""virDomainEventType, without kinds that change no running guest."""

_DETAILS = {
    (2, 1): "migrated here",
    (2, 2): "restored",
    (2, 3): "from a snapshot",
    (3, 1): "for migration",
    (3, 2): "after an I/O error",
    (3, 7): "for post-copy migration",
    (4, 1): "after migration",
    (5, 2): "crashed",
    (5, 3): "migrated away",
    (5, 4): "saved",
    (5, 5): "failed",
}
"""virDomainEvent…DetailType of virDomainEventType."""

_WORTH_A_CYCLE = {"device-added": "has a new device", "device-removed": "lost a device", "job-completed": "finished a job"}
"""Kinds that start a cycle. Others wait for the next cycle."""

_RESIZED = {BALLOON: "was resized by another process", "memory-size-change": "gained or lost memory"}
"""Rate-limited kinds: these events come each second for a resized guest."""


class GuestEvent(NamedTuple):
    """Event of a guest. `kind` is one of `EVENT_KINDS`; the numbers are libvirt's (0 if none)."""

    kind: str
    uuid: str
    name: str
    code: int = 0
    detail: int = 0


class EventBook:
    """Events since the last call of `changed`. Thread-safe. Starts cycles."""

    def __init__(self, resizes: Resizes, tell: Callable[[str], None]) -> None:
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._resizes = resizes
        self._tell = tell

    def heard(self, event: GuestEvent) -> None:
        """Record an event, in libvirt's thread, and start a cycle if needed."""
        with self._lock:
            if event.kind != BALLOON:  # each bulk call has the size
                self._changed.add(event.uuid)
            news = self._worth_a_cycle(event)
        if news:
            self._tell(f"guest {printable(event.name)} {news}")

    def changed(self, active: Collection[str]) -> set[str]:
        """Return, once, the ids of guests to read again."""
        with self._lock:
            changed, self._changed = self._changed, set()
        self._resizes.keep(active)
        return changed

    def _worth_a_cycle(self, event: GuestEvent) -> str:
        if event.kind == LIFECYCLE:
            news, detail = _ACTIVE.get(event.code, ""), _DETAILS.get((event.code, event.detail), "")
            return f"{news}, {detail}" if news and detail else news
        if event.kind not in _RESIZED:
            return _WORTH_A_CYCLE.get(event.kind, "")
        if event.kind == BALLOON and self._resizes.is_own(event.uuid, event.code):
            return ""
        return _RESIZED[event.kind] if self._resizes.may_tell() else ""
