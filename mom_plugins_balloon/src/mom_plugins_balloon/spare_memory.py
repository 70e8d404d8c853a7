"""How much memory the host can get from its guests, and how soon, without any of them falling below what it needs or is promised.

Careful on purpose: what is promised to a launch by this must really come. The parameters are those of the law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from mom_core import ControlSpec, Guest, Scope, Snapshot, Unit
from mom_plugins_balloon.cold_memory import PACE_SHARE, counted_kib, gained_kib
from mom_plugins_balloon.limits import MINIMUM_KIB, ShrinkLimits, least_kib, need_kib
from mom_plugins_balloon.parameters import BALLOON_KIB_PER_SECOND, LawParameters
from mom_plugins_balloon.promises import guaranteed_kib
from mom_plugins_balloon.told import memory_of

CONTROL: Final = "balloon_target"
OBSTACLE: Final = "balloon_obstacle"
RESTS: Final = "balloon_rest"

MOVED_KIB: Final = 512
"""A guest that came so much nearer to its target while it was watched is moving."""

TARGET: Final = ControlSpec(
    CONTROL,
    Unit.KIB,
    Scope.GUEST,
    "the size that the guest's memory balloon leaves it",
    field="balloon_cur",
    minimum=MINIMUM_KIB,
    gradual=MOVED_KIB,
)

CLOCK_SLACK_SECONDS: Final = 1.0
"""The time of a guest's statistics is known to the second."""

_MOST_STEPS: Final = 64
"""Halving what is left for so many times leaves nothing."""


class Spare(NamedTuple):
    """What guests can give: KiB in all, of which `sure` can be counted on, and by how many guests. `cold` is what the host gains besides
    when what they hardly touch goes to its swap, at `cold_pace` KiB/s."""

    total: float
    sure: float
    guests: int
    cold: float = 0.0
    cold_pace: float = 0.0


def spare_of(snapshot: Snapshot, history: Sequence[Snapshot], law: LawParameters, limits: ShrinkLimits) -> Spare:
    """What the host gains when all its guests give what they can spare.

    :param history: older snapshots, oldest first: a guest that is being shrunk needs more than its newest numbers say
    """
    total = sure = cold = holders = 0.0
    not_asked = law.step / 1024 / law.shrink_share  # who can spare less is not asked: its share is less than the smallest step
    donors = 0
    for guest in snapshot.guests.values():
        gives = spare_kib(guest, _largest(guest, snapshot, history), law, limits)
        if gives > 0:
            total += gives
            sure += max(0.0, gives - not_asked)
            donors += 1
        beyond = counted_kib(guest) - gives  # what the balloon would take of the same counts once
        if beyond > 0:
            cold += beyond
            holders += guest.number("rss") or 0.0
    return Spare(total, sure, donors, gained_kib(cold, snapshot.host), PACE_SHARE * holders)


def spare_kib(guest: Guest, largest: float | None, law: LawParameters, limits: ShrinkLimits) -> float:
    """What the host gains when this guest gives what it can spare, in KiB: 0 when it must not be shrunk, or cannot be counted on.

    Memory that the guest has never touched is no gain, whatever its size: with the size at the floor, its process holds about the floor.

    :param largest: the largest size that it has had since its statistics were taken; None: the present one
    """
    memory = memory_of(guest, guest.text(OBSTACLE) or "", guaranteed_kib(guest.fields))
    if memory is None or CONTROL in guest.blocked or "*" in guest.blocked:
        return 0.0
    memory = memory._replace(largest=largest)
    size, need, least = memory.current, need_kib(memory), least_kib(memory, limits)
    if need is None or least is None:
        return 0.0
    keeps = max(least, need + law.margin_kib(need))
    held = guest.number("rss")
    return max(0.0, (size if held is None else min(size, held)) - keeps)


def _largest(guest: Guest, snapshot: Snapshot, history: Sequence[Snapshot]) -> float | None:
    age = guest.number("stats_age")
    if age is None:
        return None
    since = snapshot.monotonic - age - CLOCK_SLACK_SECONDS
    found: float | None = None
    for older in reversed(history):
        size = _size_in(older.guests, guest)
        if size is not None and (found is None or size > found):
            found = size
        if older.monotonic < since:  # the one before it counts too: when between the two the size changed is unknown
            break
    return found


def _size_in(guests: Mapping[str, Guest], guest: Guest) -> float | None:
    then = guests.get(guest.id)
    return None if then is None or then.incarnation != guest.incarnation else then.number("balloon_cur")


def seconds_to_free(wanted_kib: float, spare: Spare, cycle_seconds: float, law: LawParameters) -> float | None:
    """How long guests take to give so much. None when they do not have it.

    In each cycle all give the same share of what they can spare still, so that nearly all of it takes longer than half of it.
    """
    if wanted_kib <= 0:
        return 0.0
    by_balloons = min(wanted_kib, spare.total) if spare.guests else 0.0
    rest = wanted_kib - by_balloons
    if rest > spare.cold:
        return None
    cold_seconds = rest / spare.cold_pace + cycle_seconds if rest else 0.0
    return max(cold_seconds, _seconds_of_balloons(by_balloons, spare, cycle_seconds, law))


def _seconds_of_balloons(wanted_kib: float, spare: Spare, cycle_seconds: float, law: LawParameters) -> float:
    if wanted_kib <= 0:
        return 0.0
    left, steps = wanted_kib, 0
    can_give = spare.total
    while left > 0 and steps < _MOST_STEPS:
        gives = min(left, law.shrink_share * can_give, BALLOON_KIB_PER_SECOND * cycle_seconds * spare.guests)
        left -= gives
        can_give -= gives
        steps += 1
        if gives < 1.0:
            break
    # A cycle more: the last step must have moved before the host's figures show it.
    return (steps + 1) * cycle_seconds if left < 1.0 else math.inf
