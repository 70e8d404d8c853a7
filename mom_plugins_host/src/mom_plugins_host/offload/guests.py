"""What is kept of each guest from cycle to cycle: how its memory is reached, what comes back of it, and what the law remembers."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Final

from mom_core import Guest, Value
from mom_kvm import Hierarchies, pid_of
from mom_plugins_host.offload.fields import COLD, MAY_OFFLOAD, OFFLOAD, OFFLOADED, REFAULTS, STATE, WORKING_SET, WORKING_SET_AGE
from mom_plugins_host.offload.law import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PAGE_KIB, ObservedGuest, ReclaimState, cold_kib
from mom_plugins_host.offload.processes import MemoryWay, faults_of, way_to
from mom_plugins_host.offload.requests import OUT_OF_TIME

_IN_TURN: Final = 100
_LOOK_SECONDS: Final = 30.0
"""How many guests' processes are looked at closely in one cycle, and how old a look may be: it takes 200 us for each, which for a thousand
would be a fifth of a second; a device that is given to a guest holds its memory in place from then on."""

_FAULTS_SECONDS: Final = 1.0
"""The kernel adds up a group's counters when they are read: in cycles that something woke mom for they are not read again."""


LISTS_UNTIL_GONE: Final = 3
"""A guest that is missing from fewer lists has not gone: one of several hypervisors may have been silent."""


@dataclass(slots=True)
class FollowedGuest:
    """One guest. Times are monotonic seconds; `moved_kib` is what went since the last decision, `offloaded_kib` since mom knows it.

    `may_offload` is the last word of its class, once `class_heard`: 0 forbids that its memory goes; None: it has no class. The last request
    to it gave nothing where `vain` says why: it is asked again at `vain_until`, and `vain_pause` seconds after the next such one.
    So many lists have lacked it since it was listed: `lists_without`.
    """

    incarnation: str
    way: MemoryWay = field(default_factory=lambda: MemoryWay("", why_not="it has not been looked at yet"))
    looked: float = -_LOOK_SECONDS
    state: ReclaimState = field(default_factory=ReclaimState)
    faults: tuple[float, int] | None = None
    refaults: float | None = None
    unswept_seconds: float = 0.0
    moved_kib: int = 0
    offloaded_kib: int = 0
    at: int = 0
    pace: int = 0
    left: int = 0
    reason: str = ""
    observed: ObservedGuest | None = None
    may_offload: float | None = None
    class_heard: bool = False
    vain: str = ""
    vain_until: float = 0.0
    vain_pause: float = FIRST_PAUSE_SECONDS
    lists_without: int = 0

    def look(self, guest: Guest, root: Path, hierarchies: Hierarchies, now: float) -> None:
        """See how its memory is reached, and whether it can go anywhere."""
        way = way_to(guest, root, hierarchies)
        if (way.pid, way.started, way.folder) != (self.way.pid, self.way.started, self.way.folder):
            self.faults = self.refaults = None
        self.way, self.looked = way, now

    def hear_class(self, guest: Guest, *, silent: bool) -> None:
        """Note what its class says.

        :param silent: the plugin of classes failed, or was late: what it said last holds
        """
        told = guest.number(MAY_OFFLOAD)
        if told is not None or not silent:
            self.may_offload, self.class_heard = told, True

    def note_moved(self, kib: int, why: str, now: float) -> None:
        """Note what a request gave, and why no more.

        A guest that gave nothing is left out for a while, as it would give nothing in the next cycle either: nothing of it is away, so
        that it is the cheapest of all, and others would not be asked.
        """
        self.moved_kib += kib
        self.offloaded_kib += kib
        if kib:
            self.vain_pause = FIRST_PAUSE_SECONDS
        elif why:
            self.reason = why
            if why != OUT_OF_TIME:
                self.vain, self.vain_until = why, now + self.vain_pause
                self.vain_pause = min(2 * self.vain_pause, LONGEST_PAUSE_SECONDS)

    def why_left_out(self, now: float) -> str:
        """Why it is not asked now, as the last request gave nothing; empty: it may be asked."""
        return f"{self.vain}; tried again in {self.vain_until - now:.0f} s" if now < self.vain_until else ""

    def seen(self, root: Path | None, now: float) -> dict[str, Value]:
        """Its fields in a new cycle, in which the pace lapses that was not asked for again.

        :param root: where what came back of it is read; None: the hypervisor says it
        """
        if root is not None:
            self._compare_faults(root, now)
        self.left -= 1
        if self.left < 0:
            self.pace = 0
        found: dict[str, Value] = {OFFLOAD: self.pace, OFFLOADED: self.offloaded_kib, STATE: self.reason or None}
        # Where only the hypervisor counts faults, what came back until the last decision.
        refaults = self.observed.refaults_kib if self.refaults is None and self.observed is not None else self.refaults
        found[REFAULTS] = None if refaults is None else round(refaults)
        cold = None if self.observed is None else cold_kib(self.observed, self.state)
        if cold is not None and self.state.working_set is not None:
            found |= {COLD: int(cold), WORKING_SET: int(self.state.working_set), WORKING_SET_AGE: round(now - self.state.learnt, 1)}
        return found

    def _compare_faults(self, root: Path, now: float) -> None:
        """See what came back since the last comparison."""
        if self.faults is not None and now - self.faults[0] < _FAULTS_SECONDS:
            return
        faults = faults_of(self.way, root)
        if faults is None:
            self.faults = self.refaults = None
            return
        if self.faults is not None:
            since, before = self.faults
            self.refaults = max(0, faults - before) * PAGE_KIB / (now - since)
        self.faults = now, faults


def followed(before: Mapping[str, FollowedGuest], guests: Sequence[Guest]) -> dict[str, FollowedGuest]:
    """These guests, by id, with what was kept of those that were there before; of one that was started anew, what its class said."""
    found: dict[str, FollowedGuest] = {}
    for guest in guests:
        one = before.get(guest.id) or FollowedGuest(guest.incarnation)
        if one.incarnation != guest.incarnation:
            one = FollowedGuest(guest.incarnation, may_offload=one.may_offload, class_heard=one.class_heard)
        one.lists_without = 0
        found[guest.id] = one
    return found


def waited_for(before: Mapping[str, FollowedGuest], listed: Mapping[str, FollowedGuest]) -> dict[str, FollowedGuest]:
    """Those that are not listed and may not have gone, by id; none without an incarnation, which tells that it is the same."""
    found: dict[str, FollowedGuest] = {}
    for identity in before.keys() - listed.keys():
        one = before[identity]
        one.lists_without += 1
        if one.incarnation and one.lists_without < LISTS_UNTIL_GONE:
            found[identity] = one
    return found


def look_in_turn(kept: Mapping[str, FollowedGuest], guests: Sequence[Guest], root: Path, hierarchies: Hierarchies, now: float) -> None:
    """Look at the processes of new guests, and at those that were not looked at for longest."""
    long_ago: list[tuple[float, Guest]] = []
    for guest in guests:
        one = kept[guest.id]
        if one.way.pid != (pid_of(guest) or 0):
            one.look(guest, root, hierarchies, now)
        elif now - one.looked >= _LOOK_SECONDS:
            long_ago.append((one.looked, guest))
    for _, guest in heapq.nsmallest(_IN_TURN, long_ago, key=itemgetter(0)):
        kept[guest.id].look(guest, root, hierarchies, now)
