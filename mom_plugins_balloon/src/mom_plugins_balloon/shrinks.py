"""Unfinished shrinks: stored for the next mom process, and stopped or undone if they must not continue."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from mom_core import Guest, PluginContext, StateError, Value, format_kib
from mom_plugins_balloon.balloon_state import BalloonFile, UnfinishedShrink
from mom_plugins_balloon.ballooned_guests import BalloonedGuests
from mom_plugins_balloon.gate import GateResult, ShrinkLimits, never_shrunk
from mom_plugins_balloon.names import CONTROL, PINNED
from mom_plugins_balloon.sizes import SizeRequest
from mom_plugins_balloon.started_sizes import StartedSizes


class ShrinksUnderWay:
    """Unfinished shrinks, initially those of the previous mom process."""

    def __init__(self, context: PluginContext, records: BalloonedGuests, file: BalloonFile) -> None:
        self._context, self._records, self._file = context, records, file

    def of_before(self, identity: str) -> SizeRequest | None:
        """Return the previous mom process's last request to an unseen guest."""
        shrink = self._file.state.shrinks.get(identity)
        return None if shrink is None else SizeRequest(shrink.target, shrink.before, 0.0)

    def note(self, asked: Mapping[str, tuple[float, Value]] | None = None) -> None:
        """Write the running shrinks if they have changed."""
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
            with suppress(StateError):  # mom reports the error; the ledger's disk has failed too
                self._file.write(shrinks=shrinks)

    def _is_missing(self, identity: str, incarnation: str) -> bool:
        past = self._records.of(identity)
        expected = identity in self._records.asked_before if past is None else past.incarnation == incarnation
        return expected and identity not in self._records.snapshot.guests


_REBOOTED = "it has rebooted: it gets its original size until its programs have started"


def stopped_shrinks(
    records: BalloonedGuests, holds: Mapping[str, int], limits: ShrinkLimits, end_sweep: Callable[[str], None], started: StartedSizes
) -> Iterator[tuple[Guest, GateResult]]:
    """Yield guests that get another size than mom's target, with the size and its reason.

    :param holds: guarantees in KiB keyed by guest id
    """
    snapshot, before_mom = records.snapshot, functools.cache(started.before_mom)  # lazy: few cycles need it
    guests, numbers = snapshot.listed, map(snapshot.numbers, (CONTROL, "balloon_cur", "balloon_max"))
    for guest, past, target, size, maximum in zip(guests, records.of_all(guests), *numbers, strict=True):
        if size is None or guest.why_blocked(CONTROL):
            continue
        request, guarantee = past.request, holds.get(guest.id, 0)
        if maximum is not None and records.boots_again(past) and (before := before_mom().get((guest.id, guest.incarnation))):
            had = int(started.without_mom(snapshot.guests[guest.id], before))
            if had > (target or size):
                yield guest, GateResult(had, reason=_REBOOTED)
                continue
        if target is None:
            continue
        if request is not None and request.sweeps:
            if target < guarantee:  # the guarantee has grown since
                end_sweep(guest.id)
            continue
        pinned = guest.properties.get(PINNED)
        if pinned and maximum is not None and target < maximum:
            yield guest, GateResult(int(maximum), reason=f"{pinned}; mom returns the memory taken from it")
        elif target < guarantee and (size < guarantee or past.pending is not None):
            # The guarantee has grown since: by a new promise, a larger maximum, or because other guests have left. If a guest has
            # arrived and has more than its guarantee, another process has resized it.
            yield guest, GateResult(guarantee, reason=f"its guarantee is {format_kib(guarantee)} now; mom returns memory up to this size")
        elif size - target >= records.dead_band and (request is None or not request.arrived):  # otherwise another process has resized it
            memory = records.memory_of(guest.id)
            limit = None if memory is None else never_shrunk(memory, limits)
            if memory is not None and limit is not None:
                yield guest, GateResult(math.ceil(size), reason=f"{limit.words(memory, limits)}; the shrink in progress is stopped")
