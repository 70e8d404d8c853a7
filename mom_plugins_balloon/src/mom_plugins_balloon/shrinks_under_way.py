"""Guests that were asked for memory and have not given it yet, kept on disk.

Such a guest goes on shrinking. After a crash, only this tells that its size is on the way to mom's target.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from mom_core import PluginContext, StateError, Value
from mom_plugins_balloon.balloon_state import BalloonFile, UnfinishedShrink
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.sizes import SizeRequest


class ShrinksUnderWay:
    """Shrinks that guests have not completed, as the file has them: at first, those of the mom before."""

    def __init__(self, context: PluginContext, records: BalloonedGuests, file: BalloonFile) -> None:
        self._context, self._records, self._file = context, records, file

    def of_before(self, identity: str) -> SizeRequest | None:
        """Return the last request of the mom before to a guest that was not seen yet; None: there was none."""
        shrink = self._file.state.shrinks.get(identity)
        return None if shrink is None else SizeRequest(shrink.target, shrink.before, 0.0)

    def note(self, asked: Mapping[str, tuple[float, Value]] | None = None) -> None:
        """Write the shrinks that are under way, if they have changed.

        :param asked: sizes of guests that are about to be asked, and their targets
        """
        guests, before = self._records.snapshot.listed, self._file.state.shrinks
        if not self._context.serves or not guests:
            return
        shrinks = {identity: shrink for identity, shrink in before.items() if self._is_missing(identity, shrink.incarnation)}
        for guest, past in zip(guests, self._records.of_all(guests), strict=True):
            request = past.request
            if request is not None and not request.arrived and not request.sweeps and 0 < request.target < request.began_at:
                shrinks[guest.id] = UnfinishedShrink(guest.incarnation, int(request.began_at), request.target)
        for identity, (size, target) in (asked or {}).items():
            shrinking = self._records.snapshot.guests.get(identity)
            if shrinking is not None and isinstance(target, int) and 0 < target < size:
                shrinks[identity] = UnfinishedShrink(shrinking.incarnation, int(size), target)
        if shrinks != before:
            with suppress(StateError):  # mom reports a file that cannot be written, and its ledger could not be written either
                self._file.write(shrinks=shrinks)

    def _is_missing(self, identity: str, incarnation: str) -> bool:
        """Return whether the last list lacks a guest that is expected back: it was there lately, or the mom before had asked it."""
        past = self._records.of(identity)
        expected = identity in self._records.asked_before if past is None else past.incarnation == incarnation
        return expected and identity not in self._records.snapshot.guests
