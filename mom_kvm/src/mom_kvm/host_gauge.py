"""Gauge that decides when falling memory on the host needs a cycle."""

from __future__ import annotations

from typing import Final

from mom_core import format_kib

LOW_SHARE: Final = 0.2
_LOW_MOST_KIB: Final = 32 << 20
"""Upper limit of the default low-memory level."""

_REARM_SHARE: Final = 0.01
"""Available memory must rise above the low-memory level by this fraction before another fall below the level counts."""


class AvailableGauge:
    """Gauge that compares the host's available memory with the last cycle's."""

    FALL_SHARE: Final = 0.05
    """A fall of available memory by this fraction, and by `FALL_KIB`, needs a cycle."""
    FALL_KIB: Final = 64 << 10
    ALLOCATED_KIB: Final = 2 << 20
    """KiB that each CPU can allocate in a second. Measured: the kernel clears 1.8 GiB/s of pages."""
    FALL_BELOW: Final = 2.0
    """Falls count only while available memory is below this multiple of the low-memory level."""

    def __init__(self) -> None:
        self._seen: float | None = None
        self._armed = False
        self._asked = False

    @staticmethod
    def usual_low(total_kib: float) -> float:
        """Return the default low-memory level in KiB for a host of this size."""
        return min(LOW_SHARE * total_kib, _LOW_MOST_KIB)

    def saw(self, available: float, low: float) -> None:
        """Record the available memory of a cycle, and the low-memory level, in KiB."""
        self._seen = available
        self._armed |= available >= low * (1 + _REARM_SHARE)
        self._asked = False

    def why(self, available: float, low: float) -> str:
        """Return why a cycle is needed; empty if it is not."""
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
