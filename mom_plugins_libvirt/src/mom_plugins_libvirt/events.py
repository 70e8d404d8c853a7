"""Guests' events: which are listened to, what they make mom read again, and which are worth a cycle at once.

An event carries nothing into the list of guests. It only says that a guest is to be read again, and that is done by the next bulk call: so
events may be missed, come twice or in any order, and the list ends up the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from mom_core import printable

LIFECYCLE = "lifecycle"
BALLOON = "balloon-change"

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
"""What is listened to, with the names of libvirt's constants without `VIR_DOMAIN_EVENT_ID_`. Where one is missing, polling notices."""

_ACTIVE = {2: "started", 3: "suspended", 4: "resumed", 5: "stopped", 6: "shut down", 7: "suspended", 8: "crashed"}
"""virDomainEventType, without `defined` and `undefined`, which change no running guest."""

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
"""virDomainEvent…DetailType of virDomainEventType, where it says more than the event itself."""

_WORTH_A_CYCLE = {
    "device-added": "has a new device",
    "device-removed": "lost a device",
    "job-completed": "finished a job",
}
"""The others are worth reading again, which the next cycle does."""

_RESIZED = {BALLOON: "was resized by somebody else", "memory-size-change": "was given memory, or lost some"}
"""These come every second for each guest that is being resized, so they are rate limited below."""

_RESIZED_SECONDS = 5.0
"""At most one cycle in so many seconds for all guests that others resize: it begins at once, and the scheduled cycles see the rest."""

_SLACK_KIB = 1024
"""A size counts as reached within this: balloons move in pages, and some guests' in 2 MiB; less is not worth a cycle either."""

_OVERLAP_SECONDS = 5.0
"""How long a guest may go on towards a target after it was given the next: QEMU tells with up to a second's delay."""

_SETTLED_SECONDS = 2.0
"""From so long after a guest got to its target on, it moves for another process."""


class GuestEvent(NamedTuple):
    """Something that happened to a guest: `kind` is one of `EVENT_KINDS`, the numbers are libvirt's for it (0 where it has none)."""

    kind: str
    uuid: str
    name: str
    code: int = 0
    detail: int = 0


@dataclass(frozen=True, slots=True)
class _Resize:
    """Mom's own resizing of a guest: the sizes in KiB that it passes through, and in monotonic seconds when it began and got there."""

    low: int
    high: int
    target: int
    since: float
    arrived: float = float("inf")


class EventBook:
    """What events have said since the last question, and who is to be woken. Safe to be used from several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._resizes: dict[str, _Resize] = {}
        self._subscribers: list[Callable[[str], None]] = []
        self._resized_at = float("-inf")

    def subscribe(self, callback: Callable[[str], None]) -> Callable[[], None]:
        """Call `callback(what happened)` when something happens that is worth a cycle; the result ends that."""
        with self._lock:
            self._subscribers.append(callback)

        def unsubscribe() -> None:
            with self._lock, suppress(ValueError):
                self._subscribers.remove(callback)

        return unsubscribe

    def returned(self, uri: str) -> None:
        """libvirtd can be reached again; what happened meanwhile is read by the cycle that this asks for."""
        self._tell(f"{printable(uri)} can be reached again")

    def heard(self, event: GuestEvent) -> None:
        """Take note of an event, in libvirt's thread; wakes the subscribers if it is worth a cycle."""
        with self._lock:
            if event.kind != BALLOON:  # a new size comes with every bulk call
                self._changed.add(event.uuid)
            what = self._worth_a_cycle(event)
        if what:
            self._tell(f"guest {printable(event.name)} {what}")

    def _tell(self, what: str) -> None:
        with self._lock:
            subscribers = tuple(self._subscribers)
        for subscriber in subscribers:
            subscriber(what)

    def changed(self, active: Collection[str]) -> set[str]:
        """The ids of the guests of which something must be read again, once; `active` are all that there are now."""
        with self._lock:
            changed, self._changed = self._changed, set()
            for gone in self._resizes.keys() - active:
                del self._resizes[gone]
            return changed

    def resizing(self, uuid: str, size_kib: int | None, target_kib: int) -> None:
        """Mom is about to resize this guest, which has `size_kib` now: the events that this causes are not news."""
        now = self._monotonic()
        known = target_kib if size_kib is None else size_kib
        low, high = min(known, target_kib), max(known, target_kib)
        with self._lock:
            before = self._resizes.get(uuid)
            if before is not None and now - before.since < _OVERLAP_SECONDS:
                low, high = min(low, before.low), max(high, before.high)
            self._resizes[uuid] = _Resize(low, high, target_kib, now)

    def _worth_a_cycle(self, event: GuestEvent) -> str:
        """What happened, in words; empty if it can wait for the next cycle. The lock is held."""
        if event.kind == LIFECYCLE:
            what, detail = _ACTIVE.get(event.code, ""), _DETAILS.get((event.code, event.detail), "")
            return f"{what}, {detail}" if what and detail else what
        if event.kind not in _RESIZED:
            return _WORTH_A_CYCLE.get(event.kind, "")
        if event.kind == BALLOON and self._is_own(event.uuid, event.code):
            return ""
        now = self._monotonic()
        if now - self._resized_at < _RESIZED_SECONDS:
            return ""
        self._resized_at = now
        return _RESIZED[event.kind]

    def _is_own(self, uuid: str, size_kib: int) -> bool:
        """Whether mom itself has caused the guest to have this size. The lock is held."""
        own = self._resizes.get(uuid)
        if own is None or not own.low - _SLACK_KIB <= size_kib <= own.high + _SLACK_KIB:
            return False
        now = self._monotonic()
        at_target = abs(size_kib - own.target) <= _SLACK_KIB
        if at_target and own.arrived > now:
            self._resizes[uuid] = replace(own, arrived=now)
        return at_target or now - own.arrived < _SETTLED_SECONDS
