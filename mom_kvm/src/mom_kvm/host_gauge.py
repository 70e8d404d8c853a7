"""Judge of available memory for real and simulated hosts: tells when the last cycle is out of date."""

from __future__ import annotations

from typing import Final

from mom_core import format_kib

LOW_SHARE: Final = 0.2
LOW_MOST_KIB: Final = 32 << 20
"""Without a setting, and where no plugin says what should be available, the host is low when less than this share is, or these 32 GiB if
that is less: where operators begin to worry."""

REARM_SHARE: Final = 0.01
"""So much above the level a cycle must have seen the host again before falling below it is news once more: what is available goes up and
down by tens of MiB all the time."""


class AvailableGauge:
    """Judge that compares available memory with the last cycle's. Numbers in KiB."""

    FALL_SHARE: Final = 0.05
    """What the last cycle decided is out of date when available memory has fallen by this share since, and by `FALL_KIB` at least. On the
    way from the level to a quarter of it, below which mom can do little, that is 28 cycles."""
    FALL_KIB: Final = 64 << 10
    """The least fall that counts, in KiB."""
    FALL_BELOW: Final = 2.0
    """Falls count below this multiple of the level only: a host with plenty of memory has no use for more cycles."""

    def __init__(self) -> None:
        self._seen: float | None = None
        self._armed = False
        self._asked = False

    @staticmethod
    def usual_low(total_kib: float) -> float:
        """Return the KiB of available memory below which a host of this size is low by default."""
        return min(LOW_SHARE * total_kib, LOW_MOST_KIB)

    def saw(self, available: float, low: float) -> None:
        """Remember the value that a cycle uses."""
        self._seen = available
        self._armed |= available >= low * (1 + REARM_SHARE)
        self._asked = False

    def why(self, available: float, low: float) -> str:
        """Return why a cycle is needed now; empty when none is, or when it was asked for already."""
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
