"""Size that mom asked a guest for, whether the guest cooperates, and the sizes that it had lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from mom_core import format_duration, format_kib

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
    at: float
    """Time of the command."""
    arrived: bool = False
    statistics_made: float | None = None
    """Time of the statistics that the decision is based on."""
    sweeps: bool = False
    """It is a sweep whose end was not reported yet."""
    in_doubt: bool = False
    """The command was not answered, and may have taken effect all the same."""


class BalloonSettling(NamedTuple):
    """Balloon of a guest that may still be moving after its start. Times are monotonic seconds."""

    first_seen: float
    """Time when mom first saw the guest."""
    reported: float | None = None
    """Time of the first statistics that were made since; a guest boots before them."""
    maximum: float | None = None
    """Maximum of the guest in KiB when it was seen last; None: unknown."""

    def after(self, now: float, maximum: float | None, age: float | None) -> BalloonSettling:
        """Return the record after one more look, with statistics of this age."""
        reports = age is not None and now - age > self.first_seen + CLOCK_SLACK_SECONDS
        return BalloonSettling(self.first_seen, now if self.reported is None and reports else self.reported, maximum)

    def is_over(self, now: float, rested: float) -> bool:
        """Return whether the balloon is at rest.

        :param rested: seconds since its size last changed
        """
        return self.reported is not None and min(now - self.reported, rested) >= SETTLES_SECONDS


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
        for past in reversed(self.sizes):
            largest = past.size if largest is None else max(largest, past.size)
            if past.since <= moment:
                break
        return largest


PATIENCE_SECONDS = 20.0
"""s. A guest that has not come nearer to its target for so long does not cooperate. XenServer's squeezed waits as long."""

PATIENCE_AGAIN_SECONDS = 8.0
"""s. The same for a guest that was set aside before. A balloon that works moves GiB in that time."""

PROGRESS_KIB = 1024
PROGRESS_SHARE = 0.02
PROGRESS_MOST_KIB = 256 * 1024
"""KiB, a ratio of the memory that it owes, and KiB. Less than this in that time is no progress: a balloon that works moves 20 GiB.
Otherwise mom would count forever on a guest that gives a MiB now and then."""

FIRST_REST_SECONDS = 60.0
LAST_REST_SECONDS = 1800.0
"""s. Time aside: doubled from the first to the last each time that a guest gives nothing at all. A guest that gave a part was asked for too
much, and will have more to give soon."""


class Cooperation(NamedTuple):
    """Cooperation of a guest with mom's requests. Sizes are KiB, times monotonic seconds."""

    owing: float | None = None
    """Size when it last gave memory; None: it owes none."""
    since: float = 0.0
    """Time when it had that size first."""
    gave: bool = False
    """It gave a part of the memory that it owes."""
    aside_for: float = 0.0
    """Seconds of the last time aside; 0: it has cooperated since."""
    until: float = 0.0
    """Time when that ends."""
    why_aside: str = ""
    """Why it is set aside; empty: it is counted on."""

    def after(
        self, request: SizeRequest | None, size: float | None, now: float, dead_band: float, *, excused: bool
    ) -> tuple[Cooperation, SizeRequest | None]:
        """Return the record after one more cycle, and the request if it still stands.

        :param size: its present size
        :param dead_band: KiB; a guest that is so near to its target has arrived
        :param excused: it cannot be resized now, and is not blamed
        """
        state = self._replace(why_aside="") if self.why_aside and now >= self.until else self
        if request is None or size is None:
            return state._settled(), request
        if excused or request.sweeps:  # a sweep waits for its turn
            return state._replace(owing=size, since=now, gave=False), request
        if not request.arrived and size - request.target >= dead_band:
            return state._after_owing(request, size, now)
        not_grown = request.in_doubt and not request.arrived and now - request.at >= PATIENCE_SECONDS
        gave = request.target < request.began_at and (request.arrived or state.owing is not None)
        return COOPERATIVE if gave else state._settled(), None if not_grown else request

    def _settled(self) -> Cooperation:
        return self._replace(owing=None, gave=False) if self.aside_for else COOPERATIVE

    def _after_owing(self, request: SizeRequest, size: float, now: float) -> tuple[Cooperation, SizeRequest | None]:
        """Return the record of a guest above its target, and the request if it still stands."""
        state, owing = self, self.owing
        if owing is None:
            owing = max(size, request.began_at)
            state = self._replace(owing=owing, since=request.at, gave=False)
        if size <= owing - max(PROGRESS_KIB, min(PROGRESS_SHARE * (owing - request.target), PROGRESS_MOST_KIB)):
            state = state._replace(owing=size, since=now, gave=True)
        patience = PATIENCE_AGAIN_SECONDS if state.aside_for else PATIENCE_SECONDS
        if now - state.since < patience:
            return state, request
        if request.in_doubt:  # it was not asked, as it seems
            return state._settled(), None
        seconds = min(2 * state.aside_for, LAST_REST_SECONDS) if state.aside_for and not state.gave else FIRST_REST_SECONDS
        why = (
            f"set aside for {format_duration(seconds)}, as it was asked to go to {format_kib(request.target)} and has stayed at "
            f"{format_kib(size)} for {patience:.0f} s"
        )
        return Cooperation(aside_for=seconds, until=now + seconds, why_aside=why), request


COOPERATIVE: Final = Cooperation()
