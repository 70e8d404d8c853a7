"""How much cold memory is taken from a guest's group in one step: a control law on plain numbers, and why nothing is taken.

The law is the one of Meta's senpai as it reclaims today (Weiner et al., TMO: Transparent Memory Offloading in Datacenters, ASPLOS 2022,
section 3.3): a step is a small share of the memory, times how far the pressure is from its limit, so that it gets smaller the closer
the guest comes to feeling it. Pressure is the share of time in which at least one of the guest's tasks waited for memory (PSI "some").
What is new here: a pause that gets longer with each time that the limit was passed, a floor that comes from the guest's own statistics and
guarantee, and a second sign of harm, memory that comes straight back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_MOST_SHARE = 0.01
"""The most of its memory that a guest loses in one step, as senpai's `max_probe`: 1 % that was wrong is read back within a second."""

_LEAST_KIB = 256
"""Less is not worth a call: the kernel reclaims in batches of 32 pages."""

_LONGEST_GATHERED_SECONDS = 60.0
"""For so long a pace adds up to a step that is worth it; more at once would be no small step."""

_FIRST_PAUSE_SECONDS = 30.0
"""An average over 10 s has decayed to a twentieth by then."""

_LONGEST_PAUSE_SECONDS = 960.0
"""A guest whose working set has changed is found out within a quarter of an hour."""

_CALM_STEPS = 10
"""After so many steps without harm the next pause is a short one again."""

_LEAST_RETURNED_KIB = 128.0
"""KiB per second: 32 pages are a readahead or two, and no sign of anything."""

_RETURNED_SHARE = 0.5
"""When half of what was taken comes back, it was not cold. Refaults count only what was reclaimed lately, so this is no false alarm."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of a guest at this moment; None: unknown.

    `floor_kib` is what it must keep, `hold` why nothing may be taken at all. `stall` is the share of time (0 to 1) in which it waited for
    memory since the last sample, `refaults_kib` what it needed again since then, in KiB per second. `room_kib` is how much could go:
    to free swap, and by dropping caches.
    """

    current_kib: int | None
    floor_kib: int | None
    stall: float | None
    refaults_kib: float | None
    room_kib: int
    hold: str = ""


@dataclass(frozen=True, slots=True)
class Mood:
    """What is remembered of a guest from step to step. Times are monotonic seconds.

    Nothing is taken before `until`, because of `reason`; the pause after the next harm is `pause` seconds. `calm` counts the steps without
    harm, `stepped` is when the last one was (None: never), and `taken_kib` what it took in KiB per second, 0 if it is not to be judged.
    """

    until: float = 0.0
    pause: float = _FIRST_PAUSE_SECONDS
    calm: int = 0
    stepped: float | None = None
    taken_kib: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReclaimStep:
    """What to take now, in KiB (0: nothing), what to remember, and why nothing is taken."""

    kib: int
    mood: Mood
    reason: str


def next_step(seen: Observed, mood: Mood, pace_kib: float, limit: float, now: float, interval: float) -> ReclaimStep:
    """The next step.

    :param pace_kib: the most to take, KiB per second
    :param limit: the share of time (0 to 1) that the guest may wait for memory
    :param now: monotonic seconds
    :param interval: seconds between two cycles
    """
    since = now - interval if mood.stepped is None else mood.stepped
    waits = now < mood.until
    harm = "" if waits else _harm(seen, mood, limit)
    if harm:
        return ReclaimStep(0, Mood(now + mood.pause, min(2 * mood.pause, _LONGEST_PAUSE_SECONDS), 0, since, 0.0, harm), harm)
    mood = replace(mood, stepped=since, taken_kib=0.0)
    why = seen.hold or (f"{mood.reason}; tried again in {mood.until - now:.0f} s" if waits else "")
    if why or seen.current_kib is None or seen.floor_kib is None or seen.stall is None:
        return ReclaimStep(0, mood, why or _unknown(seen))
    spare = seen.current_kib - seen.floor_kib
    if spare < _LEAST_KIB:
        return ReclaimStep(0, mood, "it holds no more than it needs")
    if seen.room_kib < _LEAST_KIB:
        return ReclaimStep(0, mood, "there is no swap for it, and no cache to drop")
    seconds = min(now - since, _LONGEST_GATHERED_SECONDS)
    kib = int(min(pace_kib * seconds, seen.current_kib * _MOST_SHARE, spare, seen.room_kib) * (1 - seen.stall / limit))
    if kib < _LEAST_KIB:
        return ReclaimStep(0, mood, "a step is not worth it yet")
    calm = mood.calm + 1
    pause = _FIRST_PAUSE_SECONDS if calm >= _CALM_STEPS else mood.pause
    return ReclaimStep(kib, Mood(0.0, pause, calm, now, kib / max(seconds, interval)), "")


def _harm(seen: Observed, mood: Mood, limit: float) -> str:
    """What the guest suffers from; empty: nothing."""
    if seen.stall is not None and seen.stall >= limit:
        return f"it waits for memory {seen.stall:.2%} of the time, and {limit:.2%} is the limit"
    returned = seen.refaults_kib or 0.0
    if mood.taken_kib and returned >= max(mood.taken_kib * _RETURNED_SHARE, _LEAST_RETURNED_KIB):
        return f"what was taken comes back: {returned:.0f} KiB/s"
    return ""


def _unknown(seen: Observed) -> str:
    missing = {
        "the memory of its group": seen.current_kib,
        "what it needs": seen.floor_kib,
        "its memory pressure": seen.stall,
    }
    names = [name for name, value in missing.items() if value is None]
    return f"{names[0]} is unknown" if names else ""
