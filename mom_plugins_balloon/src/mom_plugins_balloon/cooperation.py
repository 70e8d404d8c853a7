"""Guests that are asked for memory and do not give it: set aside for a while, so that their memory is not counted on, and tried again."""

from __future__ import annotations

from mom_core import format_duration, format_kib
from mom_plugins_balloon.ballooned_guests import CONTROL, Aside, BalloonedGuest, BalloonedGuests, GivingTrial, SizeRequest

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


def watch(records: BalloonedGuests) -> None:
    """Look at all guests of the last snapshot that were asked for something, once in each cycle."""
    snapshot, dead_band = records.snapshot, records.dead_band
    now, guests = snapshot.monotonic, snapshot.listed
    for guest, memory, size in zip(guests, records.of_all(guests), snapshot.numbers("balloon_cur"), strict=True):
        request, aside = memory.request, memory.aside
        if aside is not None and now >= aside.until:
            aside.reason = ""
        if request is None or size is None:
            memory.trial = None
        elif guest.why_blocked(CONTROL) or request.sweeps:  # it cannot give anything now, or waits for its turn, and is not blamed
            memory.trial = GivingTrial(size, now)
        elif request.arrived or size - request.target < dead_band:
            if request.target < request.began_at and (request.arrived or memory.trial is not None):
                memory.aside = None  # it gave what was asked
            memory.trial = None
            if request.in_doubt and not request.arrived and now - request.asked >= PATIENCE_SECONDS:
                memory.request = None  # it was not let grow
        else:
            _judge(memory, request, size, now)


def _judge(memory: BalloonedGuest, request: SizeRequest, size: float, now: float) -> None:
    """A guest that has more than was asked of it."""
    trial = memory.trial
    if trial is None:
        trial = memory.trial = GivingTrial(max(size, request.began_at), request.asked)
    if size <= trial.size - max(PROGRESS_KIB, min(PROGRESS_SHARE * (trial.size - request.target), PROGRESS_MOST_KIB)):
        trial.size, trial.since, trial.gave = size, now, True
    before = memory.aside
    patience = PATIENCE_SECONDS if before is None else PATIENCE_AGAIN_SECONDS
    if now - trial.since < patience:
        return
    if request.in_doubt:  # it was not asked, as it seems
        memory.request = memory.trial = None
        return
    rest = FIRST_REST_SECONDS if before is None or trial.gave else min(2 * before.rest, LAST_REST_SECONDS)
    reason = (
        f"set aside for {format_duration(rest)}, as it was asked to go to {format_kib(request.target)} and has stayed at "
        f"{format_kib(size)} for {patience:.0f} s"
    )
    memory.aside, memory.trial = Aside(reason, now + rest, rest), None
