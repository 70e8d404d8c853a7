"""History of guests' sizes from reports: since when, set by whom, and harm to the guest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mom_core import Decision, Guest, Outcome, Report, Status, Value, as_number
from mom_plugins_balloon.ballooned_guests import LISTS_UNTIL_GONE
from mom_plugins_balloon.names import CONTROL, KILLED, OBSTACLE, UNHEALTHY
from mom_plugins_balloon.sizes import SAME_SIZE_KIB

SIZE = "balloon_cur"

NEAR_TARGET_KIB = 8192
"""KiB. Distance to the target at which a guest has arrived."""


class Since(NamedTuple):
    """Time (seconds since the epoch) since which a guest has its size, and who set it.

    `by` is one of:

    - `mom`
    - `maximum`: all its memory, since mom first saw the guest
    - `unknown`: another size, since mom first saw the guest
    - `somebody-else`: the size is not mom's target
    """

    time: float
    by: str
    before_kib: float | None = None
    decision: Decision | None = None

    @property
    def at_least(self) -> bool:
        """Whether the guest had this size when mom first saw it."""
        return self.by in {"maximum", "unknown"}


@dataclass(slots=True)
class GuestHistory:
    """History of one incarnation of a guest."""

    incarnation: str
    size: float | None = None
    since: Since | None = None
    applied: Outcome | None = None
    tried: Outcome | None = None
    """Last decision that was applied or failed."""
    tried_at: float = 0.0
    obstacle: Value = None
    obstacle_since: float = 0.0
    kills: float | None = None
    killed_first: float | None = None
    """Times of the first and the last kill that still count."""
    killed_last: float | None = None
    unhealthy: str = ""
    unhealthy_since: float = 0.0
    missing: int = 0

    def see(self, guest: Guest, now: float) -> None:
        """Record one more cycle."""
        self.missing = 0
        self._see_harm(guest, now)
        obstacle = guest.fields.get(OBSTACLE)
        if obstacle != self.obstacle:
            self.obstacle, self.obstacle_since = obstacle, now
        size, before = guest.number(SIZE), self.size
        if size is None:
            return
        self.size = size
        if before is None:
            maximum = guest.number("balloon_max")
            self.since = Since(now, "maximum" if maximum is not None and size >= maximum - SAME_SIZE_KIB else "unknown")
        elif abs(size - before) >= SAME_SIZE_KIB:
            self.since = self._resized(guest, before, size, now)

    def _resized(self, guest: Guest, before: float, size: float, now: float) -> Since:
        if (applied := self.applied) is not None and _is_on_the_way(as_number(applied.decision.value), before, size):
            return Since(now, "mom", as_number(applied.before), applied.decision)
        # No decision ends a sweep.
        return Since(now, "mom" if _is_on_the_way(guest.number(CONTROL), before, size) else "somebody-else", before)

    def _see_harm(self, guest: Guest, now: float) -> None:
        kills, unhealthy = guest.number("guest_oom_kills"), guest.text(UNHEALTHY) or ""
        if not guest.number(KILLED):
            self.killed_first = self.killed_last = None
        elif kills is not None and self.kills is not None and kills > self.kills:
            self.killed_first, self.killed_last = self.killed_first or now, now
        self.kills = self.kills if kills is None else kills
        if unhealthy != self.unhealthy:
            self.unhealthy, self.unhealthy_since = unhealthy, now

    def see_outcome(self, outcome: Outcome, now: float) -> None:
        """Record the outcome of a decision on its size."""
        if outcome.status is not Status.UNCHANGED:
            self.tried, self.tried_at = outcome, now
            if outcome.status is Status.APPLIED:
                self.applied = outcome


def histories(before: Mapping[str, GuestHistory], report: Report) -> dict[str, GuestHistory]:
    """Return all histories after one more cycle, keyed by guest ID. An empty report forgets no guest: the hypervisor did not answer."""
    guests = report.snapshot.guests
    outcomes = {outcome.decision.entity.id: outcome for outcome in report.outcomes if outcome.decision.control == CONTROL}
    kept = {identity: history for identity, history in before.items() if history.missing < LISTS_UNTIL_GONE}
    for identity in kept.keys() - guests.keys() if guests else ():
        kept[identity].missing += 1
    for guest in guests.values():
        history = kept.get(guest.id)
        if history is None or history.incarnation != guest.incarnation:
            history = kept[guest.id] = GuestHistory(guest.incarnation)
        history.see(guest, report.time)
        if guest.id in outcomes:
            history.see_outcome(outcomes[guest.id], report.time)
    return kept


def _is_on_the_way(target: float | None, before: float, size: float) -> bool:
    if target is None:
        return False
    low, high = min(before, target) - NEAR_TARGET_KIB, max(before, target) + NEAR_TARGET_KIB
    return low <= size <= high and abs(size - target) <= abs(before - target) + NEAR_TARGET_KIB
