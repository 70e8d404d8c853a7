"""Service of the plugin that knows the guests' guarantees and promises."""

from __future__ import annotations

from typing import Final, Protocol

from mom_core import Guest


class Promises(Protocol):
    """Promises to a guest in a snapshot. mom calls both methods for each guest in each cycle, from any thread. Return without waiting."""

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """Return the guarantee in KiB: mom does not shrink the guest below it. None without a guarantee, or if it is unknown."""

    def promised_kib(self, guest: Guest) -> float | None:
        """Return the largest promise to the guest in KiB, even if the host cannot keep it. None without a promise, or if unknown."""


class _Unknown:
    def guaranteed_kib(self, guest: Guest) -> float | None:
        return None

    def promised_kib(self, guest: Guest) -> float | None:
        return None


NO_PROMISES: Final[Promises] = _Unknown()
"""Substitute if no plugin offers `Promises`."""
