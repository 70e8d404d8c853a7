"""Record of mom's own resizes of guests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

_RESIZED_SECONDS: Final = 5.0
"""Shortest time between two cycles that start because another process has resized a guest."""

_SLACK_KIB: Final = 1024

_OVERLAP_SECONDS: Final = 5.0
"""For this time after a new target, sizes on the way to the previous target also count as mom's."""

_SETTLED_SECONDS: Final = 2.0
"""If the size changes this long after it has reached the target, another process has resized the guest."""


@dataclass(frozen=True, slots=True)
class _Resize:
    """Resize by mom. Sizes in KiB, monotonic times."""

    low: int
    high: int
    target: int
    since: float
    arrived: float = float("inf")


class Resizes:
    """Record of mom's own resizes of guests. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._resizes: dict[str, _Resize] = {}
        self._told_at = float("-inf")

    def resizing(self, guest: str, size_kib: int | None, target_kib: int) -> None:
        """Record that mom is about to resize this guest."""
        now = self._monotonic()
        size = target_kib if size_kib is None else size_kib
        low, high = min(size, target_kib), max(size, target_kib)
        with self._lock:
            before = self._resizes.get(guest)
            if before is not None and now - before.since < _OVERLAP_SECONDS:
                low, high = min(low, before.low), max(high, before.high)
            self._resizes[guest] = _Resize(low, high, target_kib, now)

    def keep(self, active: Collection[str]) -> None:
        """Forget the resizes of all guests except `active`."""
        with self._lock:
            for gone in self._resizes.keys() - active:
                del self._resizes[gone]

    def is_own(self, guest: str, size_kib: int) -> bool:
        """Return whether mom caused this size."""
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
        """Return whether a resize by another process may start a cycle now."""
        with self._lock:
            now = self._monotonic()
            if now - self._told_at < _RESIZED_SECONDS:
                return False
            self._told_at = now
            return True
