"""Service of the plugin that knows the guests' guarantees and promises."""

from __future__ import annotations

from typing import Final, Protocol

from mom_core import Guest


class Promises(Protocol):
    """Promises to a guest in a snapshot. mom asks for each guest in each cycle, from any thread, so do not wait."""

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """Return the guest's guarantee in KiB, below which mom does not shrink it. None without a promise, or if it is unknown."""

    def promised_kib(self, guest: Guest) -> float | None:
        """Return the largest promise to the guest in KiB, even if the host cannot keep it. None without a promise, or if it is unknown."""


class _Unknown:
    def guaranteed_kib(self, guest: Guest) -> float | None:
        return None

    def promised_kib(self, guest: Guest) -> float | None:
        return None


NO_PROMISES: Final[Promises] = _Unknown()
"""Used if no plugin offers `Promises`."""
