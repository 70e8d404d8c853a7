"""Guests that are asked for memory and do not give it: set aside for a while, so that their memory is not counted on, and tried again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mom_core import Guest, Snapshot, format_duration, format_kib
from mom_plugins_balloon.requests import SizeRequest

PATIENCE_SECONDS = 20.0
"""A guest that has not come nearer to what was asked of it for so long does not cooperate: the time that XenServer's squeezed takes."""

PROGRESS_KIB = 1024
"""Less than this in that time is no progress: a balloon that works moves 20 GiB."""

FIRST_REST_SECONDS = 60.0
LAST_REST_SECONDS = 1800.0
"""How long a guest is set aside: doubled from the first to the last each time that it gives nothing at all. A guest that gave a part of
what was asked has been asked for too much, and will have something else to give soon."""


@dataclass(slots=True)
class _Trial:
    """A guest that owes memory: its size in KiB when it was last seen to give some, when that was, and whether it ever was."""

    size: float
    since: float
    gave: bool = False


@dataclass(slots=True)
class _Aside:
    """A guest that is set aside, or was: why, until when (monotonic seconds), and for how long. Empty reason: it is tried again."""

    reason: str
    until: float
    rest: float
    incarnation: str


def is_blocked(guest: Guest, control: str) -> bool:
    """Whether this control cannot be applied to this guest now."""
    return control in guest.blocked or "*" in guest.blocked


def has_arrived(identity: str, target: float, history: Sequence[Snapshot], dead_band_kib: float) -> bool:
    """Whether a guest got to the size in KiB that was asked of it last: then another process has resized it if it has another one."""
    for snapshot in reversed(history):
        guest = snapshot.guests.get(identity)
        if guest is None or guest.fields.get("balloon_target") != target:
            return False
        size = guest.number("balloon_cur")
        if size is not None and abs(size - target) < dead_band_kib:
            return True
    return False


class Cooperation:
    """Which guests give what is asked of them."""

    def __init__(self, dead_band_kib: float) -> None:
        self._dead_band = dead_band_kib
        self._trials: dict[str, _Trial] = {}
        self._aside: dict[str, _Aside] = {}

    def watch(self, snapshot: Snapshot, requests: Mapping[str, SizeRequest], control: str) -> None:
        """Look at all guests that were asked for something, once in each cycle; not at all without any guest: then the hypervisor is away.

        :param control: the control that sets a guest's size: while it is blocked, a guest cannot give anything, and is not blamed
        """
        guests, now = snapshot.guests, snapshot.monotonic
        if not guests:
            return
        trials, asides = self._trials, self._aside
        blocked = {guest.id for guest in snapshot.listed if guest.blocked} if requests else ()
        for identity, request in requests.items():
            if request.arrived and identity not in trials and identity not in asides and identity not in blocked and identity in guests:
                continue  # as nearly all: it gave what was asked, and nothing is held against it
            guest = guests.get(identity)
            size = None if guest is None else guest.number("balloon_cur")
            if guest is None or size is None:
                self._trials.pop(identity, None)
            elif is_blocked(guest, control):
                self._trials[identity] = _Trial(size, now)
            elif request.arrived or size - request.target < self._dead_band:
                trial = self._trials.pop(identity, None)
                if request.target < request.began_at and (request.arrived or trial is not None):
                    self._aside.pop(identity, None)  # it gave what was asked
            else:
                self._judge(guest, request, size, now)
        for identity in [identity for identity in self._trials if identity not in requests]:
            del self._trials[identity]
        for identity, aside in list(self._aside.items()):
            guest = guests.get(identity)
            if guest is None or guest.incarnation != aside.incarnation:
                del self._aside[identity]
            elif now >= aside.until:
                aside.reason = ""

    def _judge(self, guest: Guest, request: SizeRequest, size: float, now: float) -> None:
        """A guest that has more than was asked of it."""
        trial = self._trials.get(guest.id)
        if trial is None:
            trial = self._trials[guest.id] = _Trial(max(size, request.began_at), request.asked)
        if size <= trial.size - PROGRESS_KIB:
            trial.size, trial.since, trial.gave = size, now, True
        if now - trial.since < PATIENCE_SECONDS:
            return
        before = self._aside.get(guest.id)
        rest = FIRST_REST_SECONDS if before is None or trial.gave else min(2 * before.rest, LAST_REST_SECONDS)
        reason = (
            f"it was asked to go to {format_kib(request.target)}, and has stayed at {format_kib(size)} for {PATIENCE_SECONDS:.0f} s: "
            f"set aside for {format_duration(rest)}"
        )
        self._aside[guest.id] = _Aside(reason, now + rest, rest, guest.incarnation)
        del self._trials[guest.id]

    def rest_left(self, identity: str, now: float) -> float | None:
        """In how many seconds this guest is tried again; None when it is not set aside."""
        aside = self._aside.get(identity)
        return max(0.0, aside.until - now) if aside is not None and aside.reason else None

    def aside(self) -> Mapping[str, str]:
        """Why guests are not counted on now, by guest id; those that are have no place here."""
        return {identity: aside.reason for identity, aside in self._aside.items() if aside.reason}

    def why_aside(self, identity: str) -> str:
        """Why this guest is not counted on now; empty when it is."""
        aside = self._aside.get(identity)
        return "" if aside is None else aside.reason
