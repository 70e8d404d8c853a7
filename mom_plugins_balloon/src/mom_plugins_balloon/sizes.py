"""Sizes of one guest: the size that mom asked for, its balloon after the start, and the sizes that it had lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SAME_SIZE_KIB = 1024
"""KiB. Sizes that differ by less are the same: hypervisors round to whole MiB."""

CLOCK_SLACK_SECONDS = 1.0
"""s. The time of a guest's statistics is known to the second."""

SETTLES_SECONDS = 3.0
"""s. A balloon is at rest when the size has not changed for so long: QEMU reports it once a second."""

ASKED_AGAIN_SECONDS = 30.0
"""s. mom asks a guest that has not arrived again after so long. A virtio balloon moves 0.86 GiB/s: 26 GiB in this time."""

SIZES_SECONDS = 120.0
"""s. mom remembers sizes for so long. It does not believe older statistics anyway."""


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """Size that mom asked of a guest last. Sizes are KiB, times monotonic seconds."""

    target: int
    began_at: float
    """Size that the guest had then."""
    asked: float
    """Time of the command."""
    arrived: bool = False
    said: float | None = None
    """Time of the statistics that it went by."""
    sweeps: bool = False
    """It is a sweep whose end was not reported yet."""
    in_doubt: bool = False
    """The command was not answered, and may have taken effect all the same."""


class BalloonSettling(NamedTuple):
    """Balloon of a guest that may still be moving after its start. Sizes are KiB, times monotonic seconds."""

    met: float
    """Time when mom first saw the guest."""
    since: float = 0.0
    """Time of the last change of its size."""
    size: float = 0.0
    reported: float | None = None
    """Time of the first statistics that were made since; a guest boots before them."""
    maximum: float | None = None
    """Maximum of the guest when it was seen last; None: unknown."""

    def after(self, now: float, size: float | None, maximum: float | None, age: float | None) -> BalloonSettling:
        """Return the record after one more look, with statistics of this age."""
        settling = self._replace(maximum=maximum)
        if size is None or size < 1:
            return settling
        if abs(size - self.size) >= SAME_SIZE_KIB:
            settling = settling._replace(size=size, since=now)
        if self.reported is None and age is not None and now - age > self.met + CLOCK_SLACK_SECONDS:
            settling = settling._replace(reported=now)
        return settling

    def is_over(self, now: float) -> bool:
        """Return whether the balloon is at rest."""
        return self.reported is not None and now - max(self.reported, self.since) >= SETTLES_SECONDS


class SeenSize(NamedTuple):
    """Size that a guest had from a moment on."""

    since: float
    size: float


class SizeHistory(NamedTuple):
    """Sizes that a guest had lately. A size that stays the same is kept once."""

    sizes: tuple[SeenSize, ...] = ()

    def after(self, size: float, now: float) -> SizeHistory:
        """Return the history with one more size."""
        sizes = self.sizes
        if sizes and sizes[-1].size == size:
            return self
        sizes = (*sizes, SeenSize(now, size))
        while len(sizes) > 2 and sizes[1].since < now - SIZES_SECONDS:
            sizes = sizes[1:]
        return SizeHistory(sizes)

    def rested_for(self, now: float) -> float:
        """Return the seconds since the size last changed; 0 where no size is known."""
        return now - self.sizes[-1].since if self.sizes else 0.0

    def largest_since(self, moment: float) -> float | None:
        """Return the largest size since that moment. The guest had each size until just before the next was seen."""
        largest: float | None = None
        for seen in reversed(self.sizes):
            largest = seen.size if largest is None else max(largest, seen.size)
            if seen.since <= moment:
                break
        return largest
