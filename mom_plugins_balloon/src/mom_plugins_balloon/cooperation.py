"""Guests that are asked for memory and do not give it: mom sets them aside, counts on none of their memory, and tries again later."""

from __future__ import annotations

from typing import Final, NamedTuple

from mom_core import format_duration, format_kib
from mom_plugins_balloon.sizes import SizeRequest

PATIENCE_SECONDS = 20.0
"""s. A guest that has not come nearer to what was asked of it for so long does not cooperate: the time that XenServer's squeezed takes."""

PATIENCE_AGAIN_SECONDS = 8.0
"""s. The same for one that was set aside before and is tried again: a balloon that works by now moves GiB in that time, and while it is
waited for it is counted on, so that others are not asked."""

PROGRESS_KIB = 1024
PROGRESS_SHARE = 0.02
PROGRESS_MOST_KIB = 256 * 1024
"""KiB, a ratio of what it owes, and KiB. Less than this in that time is no progress: a balloon that works moves 20 GiB. One that gives a
MiB now and then would be counted on for ever: of nine simulated guests, one that did so cost the others a minute of their work each in a
quarter of an hour."""

FIRST_REST_SECONDS = 60.0
LAST_REST_SECONDS = 1800.0
"""s. How long a guest is set aside: doubled from the first to the last each time that it gives nothing at all. A guest that gave a part of
what was asked has been asked for too much, and will have something else to give soon."""


class Cooperation(NamedTuple):
    """Record of whether a guest gives what mom asks. Sizes are KiB, times monotonic seconds."""

    owing: float | None = None
    """Size when it last gave memory; None: it owes none."""
    since: float = 0.0
    """Time when it had that size first."""
    gave: bool = False
    """It gave a part of what it owes."""
    rest: float = 0.0
    """Seconds for which it is set aside, or was last; 0: it gave what was asked since."""
    until: float = 0.0
    """Time when that ends."""
    why_aside: str = ""
    """Why it is set aside; empty: it is counted on."""

    def after(
        self, request: SizeRequest | None, size: float | None, now: float, dead_band: float, *, excused: bool
    ) -> tuple[Cooperation, SizeRequest | None]:
        """Return the record after one more look, and the request that still stands.

        :param size: its present size
        :param dead_band: KiB; a guest that is so near to what was asked has arrived
        :param excused: it cannot be resized now, and is not blamed
        """
        state = self._replace(why_aside="") if self.why_aside and now >= self.until else self
        if request is None or size is None:
            return state._settled(), request
        if excused or request.sweeps:  # a sweep waits for its turn
            return state._replace(owing=size, since=now, gave=False), request
        if not request.arrived and size - request.target >= dead_band:
            return state._after_owing(request, size, now)
        not_grown = request.in_doubt and not request.arrived and now - request.asked >= PATIENCE_SECONDS
        gave = request.target < request.began_at and (request.arrived or state.owing is not None)
        return COOPERATIVE if gave else state._settled(), None if not_grown else request

    def _settled(self) -> Cooperation:
        return self._replace(owing=None, gave=False) if self.rest else COOPERATIVE

    def _after_owing(self, request: SizeRequest, size: float, now: float) -> tuple[Cooperation, SizeRequest | None]:
        """Return the record of a guest that has more than was asked, and the request that still stands."""
        state, owing = self, self.owing
        if owing is None:
            owing = max(size, request.began_at)
            state = self._replace(owing=owing, since=request.asked, gave=False)
        if size <= owing - max(PROGRESS_KIB, min(PROGRESS_SHARE * (owing - request.target), PROGRESS_MOST_KIB)):
            state = state._replace(owing=size, since=now, gave=True)
        patience = PATIENCE_AGAIN_SECONDS if state.rest else PATIENCE_SECONDS
        if now - state.since < patience:
            return state, request
        if request.in_doubt:  # it was not asked, as it seems
            return state._settled(), None
        rest = min(2 * state.rest, LAST_REST_SECONDS) if state.rest and not state.gave else FIRST_REST_SECONDS
        why = (
            f"set aside for {format_duration(rest)}, as it was asked to go to {format_kib(request.target)} and has stayed at "
            f"{format_kib(size)} for {patience:.0f} s"
        )
        return Cooperation(rest=rest, until=now + rest, why_aside=why), request


COOPERATIVE: Final = Cooperation()
