"""Small records of what mom remembers of a guest. Frozen: each cycle makes new ones of the old."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SAME_SIZE_KIB = 1024
"""KiB. Sizes that differ by less are the same: hypervisors round to whole MiB."""

CLOCK_SLACK_SECONDS = 1.0
"""s. The time of a guest's statistics is known to the second."""

SETTLES_SECONDS = 3.0
"""s. A balloon is at rest when the size has not changed for so long: QEMU reports it once a second."""


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
