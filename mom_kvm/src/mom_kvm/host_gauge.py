"""Judge of available memory, for real and simulated hosts: tells when the last cycle is out of date."""

from __future__ import annotations

from typing import Final

from mom_core import format_kib

LOW_SHARE: Final = 0.2
_LOW_MOST_KIB: Final = 32 << 20
"""Default level below which the host is low: this share, at most 32 GiB. Operators begin to worry there."""

_REARM_SHARE: Final = 0.01
"""How far above the level a cycle must see the host again before a new fall counts: available memory varies by tens of MiB all the time."""


class AvailableGauge:
    """Compares available memory with the last cycle's. Numbers in KiB."""

    FALL_SHARE: Final = 0.05
    """The last cycle is out of date after a fall by this share, and by `FALL_KIB`. From the level to a quarter of it, where mom can do
    little, that is 28 cycles."""
    FALL_KIB: Final = 64 << 10
    """Least fall that counts, in KiB."""
    FALL_BELOW: Final = 2.0
    """Falls count only below this multiple of the level: a host with plenty of memory needs no further cycles."""

    def __init__(self) -> None:
        self._seen: float | None = None
        self._armed = False
        self._asked = False

    @staticmethod
    def usual_low(total_kib: float) -> float:
        """Return the available KiB below which a host of this size is low by default."""
        return min(LOW_SHARE * total_kib, _LOW_MOST_KIB)

    def saw(self, available: float, low: float) -> None:
        """Note the value that a cycle uses."""
        self._seen = available
        self._armed |= available >= low * (1 + _REARM_SHARE)
        self._asked = False

    def why(self, available: float, low: float) -> str:
        """Return why a cycle is needed now; empty: none is, or one was asked for already."""
        seen = self._seen
        if seen is None or self._asked:
            return ""
        why = ""
        if self._armed and available < low:
            self._armed = False
            why = f"{format_kib(available)} available, less than {format_kib(low)}"
        elif available < self.FALL_BELOW * low and seen - available >= max(self.FALL_KIB, self.FALL_SHARE * seen):
            why = f"{format_kib(available)} available, {format_kib(seen - available)} less than in the last cycle"
        self._asked = bool(why)
        return why
