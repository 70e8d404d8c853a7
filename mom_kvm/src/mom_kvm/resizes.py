"""Tells mom's own resizes of guests from those of other processes: hypervisors send events for both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

_RESIZED_SECONDS: Final = 5.0
"""At most one extra cycle in so many seconds for all guests that others resize: it begins at once, and scheduled cycles see the rest."""

_SLACK_KIB: Final = 1024
"""Tolerance for a reached size: balloons move in pages, some guests' in 2 MiB; less is not worth a cycle either."""

_OVERLAP_SECONDS: Final = 5.0
"""How long a guest may continue towards its last target after the next one: QEMU's events are up to a second late."""

_SETTLED_SECONDS: Final = 2.0
"""A guest that moves so long after it reached its target is moved by another process."""


@dataclass(frozen=True, slots=True)
class _Resize:
    """Mom's resize of a guest: the sizes in KiB that it passes, and its begin and arrival (monotonic time)."""

    low: int
    high: int
    target: int
    since: float
    arrived: float = float("inf")


class Resizes:
    """Mom's own resizes, by guest id. For several threads."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._resizes: dict[str, _Resize] = {}
        self._told_at = float("-inf")

    def resizing(self, guest: str, size_kib: int | None, target_kib: int) -> None:
        """Expect the events of mom's resize of this guest, which has `size_kib` now."""
        now = self._monotonic()
        size = target_kib if size_kib is None else size_kib
        low, high = min(size, target_kib), max(size, target_kib)
        with self._lock:
            before = self._resizes.get(guest)
            if before is not None and now - before.since < _OVERLAP_SECONDS:
                low, high = min(low, before.low), max(high, before.high)
            self._resizes[guest] = _Resize(low, high, target_kib, now)

    def keep(self, active: Collection[str]) -> None:
        """Forget resizes of all other guests."""
        with self._lock:
            for gone in self._resizes.keys() - active:
                del self._resizes[gone]

    def is_own(self, guest: str, size_kib: int) -> bool:
        """Tell whether mom itself caused this size."""
        with self._lock:
            own = self._resizes.get(guest)
            if own is None or not own.low - _SLACK_KIB <= size_kib <= own.high + _SLACK_KIB:
                return False
            now = self._monotonic()
            at_target = abs(size_kib - own.target) <= _SLACK_KIB
            if at_target and own.arrived > now:
                self._resizes[guest] = replace(own, arrived=now)
            return at_target or now - own.arrived < _SETTLED_SECONDS

    def may_tell(self) -> bool:
        """Tell whether a resize by another process is worth a cycle now: such events come every second."""
        with self._lock:
            now = self._monotonic()
            if now - self._told_at < _RESIZED_SECONDS:
                return False
            self._told_at = now
            return True
