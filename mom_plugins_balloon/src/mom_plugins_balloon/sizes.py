"""Control of guests' sizes; a guest's requested size, its recent sizes, and whether it cooperates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, runtime_checkable

from mom_core import Entity, format_duration, format_kib

SAME_SIZE_KIB = 1024
"""Sizes that differ by less than this are equal."""

DEAD_BAND_KIB: Final = 8192
"""Smallest change of size that mom makes: guests' use varies by as much. A guest this close to its target has reached it."""

TOLERANCE_KIB: Final = 2 * DEAD_BAND_KIB
"""A size this close to mom's target counts as set by mom."""

CLOCK_SLACK_SECONDS = 1.0
"""Tolerance: times of statistics are in whole seconds."""

SETTLES_SECONDS = 3.0
"""A balloon rests after this time without change."""

ASKED_AGAIN_SECONDS = 30.0
"""Time after which mom repeats a request."""

SIZES_SECONDS = 120.0
"""Time for which mom remembers sizes."""


@runtime_checkable
class BalloonControl(Protocol):
    """Control of guests' sizes by memory balloons. Sizes are in KiB."""

    def set_balloon(self, guest: Entity, target_kib: int) -> None:
        """Request a size; return before the guest has reached it."""

    def balloon_sizes(self, guests: Sequence[Entity]) -> Mapping[str, int]:
        """Return actual sizes keyed by guest id, read in bulk. Omit unknown or vanished guests."""


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """Size that mom requested last. Sizes are KiB, times monotonic seconds."""

    target: int
    began_at: float
    """Size when mom sent the command."""
    at: float
    arrived: bool = False
    sweeps: bool = False
    """Whether this is a sweep, and the guest does not have its headroom back yet."""
    answered: bool = True
    """Whether the hypervisor has confirmed the command. Without an answer, the guest may shrink or not."""
    source: str = ""
    """Policy line or plugin that decided the size; empty if unknown."""


class BalloonSettling(NamedTuple):
    """Balloon that may still be moving after the guest's start. Times are monotonic seconds."""

    first_seen: float
    reported: float | None = None
    """Time of the first statistics after the start; until then, the guest boots."""
    maximum: float | None = None

    def after(self, now: float, maximum: float | None, age: float | None) -> BalloonSettling:
        """Return the record after one more cycle."""
        reports = age is not None and now - age > self.first_seen + CLOCK_SLACK_SECONDS
        return BalloonSettling(self.first_seen, now if self.reported is None and reports else self.reported, maximum)

    def is_over(self, now: float, rested: float) -> bool:
        """Return whether the balloon rests."""
        return self.reported is not None and min(now - self.reported, rested) >= SETTLES_SECONDS


class SeenSize(NamedTuple):
    """Size of a guest since a point in time."""

    since: float
    size: float


class SizeHistory(NamedTuple):
    """Recent sizes of a guest. Only changes are stored."""

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
        """Return the seconds since the size last changed; 0 if unknown."""
        return now - self.sizes[-1].since if self.sizes else 0.0

    def largest_since(self, moment: float) -> float | None:
        """Return the largest size since that time. Each size lasted until just before mom saw the next."""
        ends = [*(later.since for later in self.sizes[1:]), math.inf]
        return max((past.size for past, end in zip(self.sizes, ends, strict=False) if end > moment), default=None)


PATIENCE_SECONDS = 20.0
"""A guest without progress for this time does not cooperate."""

ASIDE_SECONDS = 300.0
"""Time for which mom sets such a guest aside. Otherwise, other guests would wait for memory that it does not give."""

PROGRESS_KIB = 1024
PROGRESS_SHARE = 0.02
PROGRESS_MOST_KIB = 256 * 1024
"""Least progress that counts: `PROGRESS_SHARE` of the missing memory, at least `PROGRESS_KIB`, at most `PROGRESS_MOST_KIB`."""


class Cooperation(NamedTuple):
    """Cooperation of a guest with mom's requests. Sizes are KiB, times monotonic seconds."""

    owing: float | None = None
    """Size after the balloon last inflated; None if the guest has reached its target."""
    since: float = 0.0
    """Time since which the guest has the size `owing`."""
    until: float = 0.0
    """End of the time for which mom has set the guest aside."""
    why_aside: str = ""
    """Why mom has set the guest aside; empty if it has not."""

    def after(self, request: SizeRequest | None, size: float | None, now: float, *, excused: bool) -> Cooperation:
        """Return the record after one more cycle.

        :param excused: whether the guest cannot be resized now
        """
        state = COOPERATIVE if self.why_aside and now >= self.until else self
        if request is None or size is None or request.arrived or size - request.target < DEAD_BAND_KIB:
            return state._replace(owing=None)
        if excused or request.sweeps:  # a sweep may wait for its turn
            return state._replace(owing=size, since=now)
        owing, since = (max(size, request.began_at), now) if state.owing is None else (state.owing, state.since)
        if size <= owing - max(PROGRESS_KIB, min(PROGRESS_SHARE * (owing - request.target), PROGRESS_MOST_KIB)):
            owing, since = size, now
        if now - since < PATIENCE_SECONDS:
            return state._replace(owing=owing, since=since)
        why = (
            f"no shrinks for {format_duration(ASIDE_SECONDS)}, because its balloon target was {format_kib(request.target)}, but its size "
            f"stayed at {format_kib(size)} for {PATIENCE_SECONDS:.0f} s"
        )
        return Cooperation(until=now + ASIDE_SECONDS, why_aside=why)


COOPERATIVE: Final = Cooperation()
