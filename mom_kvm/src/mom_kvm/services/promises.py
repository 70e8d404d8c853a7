"""Guarantees and promises, from one plugin."""

from __future__ import annotations

from typing import Final, Protocol

from mom_core import Guest


class Promises(Protocol):
    """Promises to guests, according to any snapshot. Called for each guest in each cycle, from any thread: do not wait."""

    def guaranteed_kib(self, guest: Guest) -> float | None:
        """Return the guarantee in KiB: mom shrinks the guest no further. None without a promise, or if unknown."""

    def promised_kib(self, guest: Guest) -> float | None:
        """Return the largest promise in KiB, even if the host cannot keep it. None without a promise, or if unknown."""


class _Unknown:
    def guaranteed_kib(self, guest: Guest) -> float | None:
        return None

    def promised_kib(self, guest: Guest) -> float | None:
        return None


NO_PROMISES: Final[Promises] = _Unknown()
"""Used if no plugin offers `Promises`."""
