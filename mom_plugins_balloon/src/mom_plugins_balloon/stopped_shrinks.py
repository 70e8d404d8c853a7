"""Shrinks that must not go on, or that must be undone, though no evaluator decides anything."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from mom_core import Guest, Snapshot, format_kib
from mom_plugins_balloon.ballooned_guests import CONTROL, PINNED, BalloonedGuests
from mom_plugins_balloon.limits import SafeSize, ShrinkLimits, never_shrunk
from mom_plugins_balloon.started_sizes import StartedSizes

_REBOOTED = "it has rebooted: until its programs have begun, it has what it had before mom"


def stopped_shrinks(
    records: BalloonedGuests,
    holds: Mapping[str, int],
    history: Sequence[Snapshot],
    limits: ShrinkLimits,
    end_sweep: Callable[[str], None],
    started: StartedSizes,
) -> Iterator[tuple[Guest, SafeSize]]:
    """The guests of the last snapshot that are to be set to another size than they were asked for, and why; nearly none.

    :param holds: KiB that are guaranteed, by guest id
    :param end_sweep: has the sweep of a guest end, by its id
    :param started: knows what guests had before mom touched their sizes
    """
    snapshot, before_mom = records.snapshot, functools.cache(started.before_mom)  # of all guests at once, and in few cycles
    for guest, target, size in zip(snapshot.listed, snapshot.numbers(CONTROL), snapshot.numbers("balloon_cur"), strict=True):
        if size is None or guest.why_blocked(CONTROL):
            continue
        memory = records.of(guest.id)
        if memory is not None and records.boots_again(memory) and (before := before_mom().get((guest.id, guest.incarnation))):
            had = _without_mom(snapshot.guests[guest.id], before, started)
            if had > (target or size):
                yield guest, SafeSize(had, _REBOOTED)
                continue
        if target is None:
            continue
        if memory is not None and memory.request is not None and memory.request.sweeps:
            if target < holds.get(guest.id, 0):  # it was promised more since
                end_sweep(guest.id)
            continue
        guarantee, pinned = holds.get(guest.id, 0), guest.properties.get(PINNED)
        maximum = snapshot.guests[guest.id].number("balloon_max") if pinned else None
        if maximum is not None and target < maximum:
            yield guest, SafeSize(int(maximum), f"{pinned}; it gets back what was taken")
        elif target < guarantee and (size < guarantee or (memory is not None and memory.pending is not None)):
            # It was promised more since mom has asked this of it: a promise was made, the guest's maximum has grown, or others have left.
            # One that has arrived and has more than that was given it by another process.
            yield guest, SafeSize(guarantee, f"its guarantee is {format_kib(guarantee)} now; it gets back what was taken of that")
        elif size - target >= records.dead_band:
            known = records.known(guest, guarantee)
            limit = None if known is None else never_shrunk(known, limits)
            if known is not None and limit is not None and not _has_arrived(guest.id, target, history, records.dead_band):
                yield guest, SafeSize(math.ceil(size), f"{limit.words(known, limits)}; the shrink under way is stopped")


def _without_mom(guest: Guest, before: float, started: StartedSizes) -> int:
    """What a guest that had `before` KiB before mom would have now; 0 while its maximum is unknown."""
    maximum = guest.number("balloon_max")
    return 0 if maximum is None else int(started.without_mom(guest, before, maximum))


def _has_arrived(identity: str, target: float, history: Sequence[Snapshot], dead_band: float) -> bool:
    """True if a guest got to the size in KiB that was asked of it last: then another process has resized it if it has another one."""
    for snapshot in reversed(history):
        guest = snapshot.guests.get(identity)
        if guest is None or guest.fields.get(CONTROL) != target:
            return False
        size = guest.number("balloon_cur")
        if size is not None and abs(size - target) < dead_band:
            return True
    return False
