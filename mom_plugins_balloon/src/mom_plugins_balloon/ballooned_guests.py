"""Records of all guests keyed by ID, including guests missing from the last lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence, Set
from operator import is_
from types import MappingProxyType
from typing import Final, NamedTuple

from mom_core import Guest, Snapshot, Value
from mom_plugins_balloon.balloon_state import UnfinishedRequest
from mom_plugins_balloon.memory import GuestMemory
from mom_plugins_balloon.names import CONTROL, OBSTACLE, PINNED, RESTS, SET_BY, START_REST
from mom_plugins_balloon.promises import PromisesKept
from mom_plugins_balloon.remembered import GuestArrival, Remembered, remember
from mom_plugins_balloon.seen import guest_memories
from mom_plugins_balloon.sizes import CLOCK_SLACK_SECONDS, SizeRequest

LISTS_UNTIL_GONE: Final = 3
"""Number of consecutive lists without a guest after which the guest is gone."""

PROMISE_UNKNOWN: Final = "the guarantee of its service class is not known yet"
NEW: Final = "it has just started, and its programs may still be starting"
START_UNKNOWN: Final = "its guarantee is its size at the start, which is not known yet"


class CycleFacts(NamedTuple):
    """Facts of one cycle from other parts of the plugin."""

    promises: PromisesKept | None = None
    """None: the snapshot's fields contain the guarantees."""
    moving: Mapping[str, str] = MappingProxyType({})
    """Why moving guests must not shrink, keyed by guest ID."""
    restores: bool = False
    """Whether mom will restore sizes later, so that it must know the original sizes."""


class DescribedGuests(NamedTuple):
    """Snapshot with the memory of each guest."""

    snapshot: Snapshot
    memories: Mapping[str, GuestMemory]
    """In the snapshot's order, keyed by guest ID."""


class BalloonedGuests:
    """Records of all guests, and the last snapshot.

    :param start_rest: seconds in which mom takes no memory from a new guest
    :param age_of: returns the age of a guest's process in seconds
    """

    def __init__(self, start_rest: float = 0.0, age_of: Callable[[Guest], float | None] = lambda guest: None) -> None:
        self._start_rest, self._age_of = start_rest, age_of
        self.snapshot = Snapshot()
        self.changed_before: Container[tuple[str, str]] = ()
        """IDs and incarnations of guests that mom resized before its restart or reload."""
        self.asked_before: dict[str, UnfinishedRequest] = {}
        """Unfinished requests from before the restart or reload, keyed by guest ID."""
        self.earlier: Mapping[str, str] | None = None
        """Incarnations of guests that ran before mom started, keyed by ID. None: all guests of the first list."""
        self._had_guests = False
        self._below_hard = False
        """Whether the host is below its hard watermark, so that new guests shrink too."""
        self._pasts: dict[str, Remembered] = {}
        """Records keyed by guest ID."""
        self._listed: Sequence[Guest] = ()
        self._described: DescribedGuests | None = None
        self._facts = CycleFacts()

    def incarnations(self) -> dict[str, str]:
        """Return incarnations keyed by guest ID."""
        return {identity: past.incarnation for identity, past in self._pasts.copy().items()}  # any thread may call this

    def of(self, identity: str) -> Remembered | None:
        """Return a guest's record, even if the guest is missing."""
        return self._pasts.get(identity)

    def put(self, identity: str, past: Remembered) -> None:
        """Replace the record of a guest."""
        if identity in self._pasts:
            self._pasts[identity] = past

    def expect(self, identity: str, incarnation: str) -> None:
        """Create the record of a guest that ran before mom started, even if the first lists lack it."""
        if incarnation:
            self._pasts[identity] = Remembered(incarnation)

    def of_all(self, guests: Sequence[Guest]) -> Sequence[Remembered]:
        """Return the records of these guests, in order, and store the guests as the last list.

        A restarted guest has a new record. An empty list changes nothing: the hypervisor did not answer.
        """
        pasts, listed = self._pasts, self._listed  # the engine passes the same guests in several sequences
        if guests and guests is not listed and (len(guests) != len(listed) or not all(map(is_, guests, listed))):
            for guest in guests:
                past = pasts.get(guest.id)
                if past is None or past.incarnation != guest.incarnation:
                    pasts[guest.id] = Remembered(guest.incarnation)
                elif past.missed_lists:
                    pasts[guest.id] = past._replace(missed_lists=0)
            if len(pasts) > len(guests):  # without its incarnation, mom cannot recognise a missing guest later
                present = {guest.id for guest in guests}
                self._pasts = pasts = {identity: past for identity, past in pasts.items() if past.incarnation or identity in present}
            self._listed = guests
        return [pasts[guest.id] for guest in guests]

    def see(self, snapshot: Snapshot) -> None:
        """Record the guests of a snapshot."""
        if snapshot is self.snapshot:
            return
        self.snapshot, self._described, now = snapshot, None, snapshot.monotonic
        available, hard = (snapshot.host.number(name) for name in ("mem_really_available", "mem_watermark_hard"))
        self._below_hard = available is not None and hard is not None and available < hard
        guests = snapshot.listed
        if guests:
            pasts = self._met(guests, now)
            if len(self._pasts) > len(guests):
                self._count_missed({guest.id for guest in guests})
            numbers = map(snapshot.numbers, ("balloon_cur", "balloon_max", "reboot_age", "guest_oom_kills"))
            for guest, past, seen in zip(guests, pasts, zip(*numbers, strict=True), strict=True):
                self._pasts[guest.id] = remember(past, guest, seen, now, self._start_rest)
        self.earlier = {} if guests or self.earlier is None else self.earlier
        self._had_guests = self._had_guests or bool(guests)

    def _count_missed(self, listed: Set[str]) -> None:
        for identity in self._pasts.keys() - listed:
            past = self._pasts[identity]
            self._pasts[identity] = past._replace(missed_lists=past.missed_lists + 1)
            if past.missed_lists + 1 >= LISTS_UNTIL_GONE:
                del self._pasts[identity]

    def _met(self, guests: Sequence[Guest], now: float) -> Sequence[Remembered]:
        pasts = self.of_all(guests)
        new = [(guest, past) for guest, past in zip(guests, pasts, strict=True) if past.arrival is None]
        for guest, past in new:
            age = self._age_of(guest)
            if self.earlier is not None and self.earlier.get(guest.id) != guest.incarnation:
                arrival = GuestArrival(self._had_guests, now - (age or 0.0), math.inf)
            else:
                arrival = GuestArrival(old_at=-math.inf if age is None else now - age + self._start_rest)
            note = self.asked_before.pop(guest.id, None)
            asks = note is not None and note.incarnation == guest.incarnation and past.request is None
            self._pasts[guest.id] = past._replace(
                arrival=arrival,
                resized=(guest.id, guest.incarnation) in self.changed_before,
                request=SizeRequest(note.target, note.before, now, sweeps=note.sweeps) if note is not None and asks else past.request,
            )
        return [self._pasts[guest.id] for guest in guests] if new else pasts

    def asked(self, guest: Guest, request: SizeRequest) -> None:
        """Record a request."""
        past = self._pasts.get(guest.id)
        if past is not None and past.incarnation == guest.incarnation:
            self._pasts[guest.id] = past._replace(resized=True, request=request)

    def forget_request(self, identity: str) -> None:
        """Forget the last request to a guest that left or was restored."""
        if (past := self._pasts.get(identity)) is not None:
            self._pasts[identity] = past._replace(resized=False, request=None)

    def columns(self, guests: Sequence[Guest], now: float) -> dict[str, Sequence[Value]]:
        """Return guests' fields about mom's requests and obstacles to a shrink, keyed by name."""
        # A new guest needs its record now, because the law may use its first statistics in this cycle.
        pasts = self._met(guests, now)
        requests, states = [past.request for past in pasts], [past.cooperation for past in pasts]
        ages = [None if request is None else max(0.0, now - request.at) for request in requests]
        return {
            CONTROL: [None if request is None else request.target for request in requests],
            "balloon_target_age": [None if age is None else round(age * 1000) / 1000 for age in ages],  # faster than round(…, 3)
            SET_BY: [None if request is None else request.source or None for request in requests],
            START_REST: [round(past.start_rest(self._start_rest, now), 1) or None for past in pasts],
            OBSTACLE: [
                guest.why_blocked(CONTROL) or obstacle(guest, past, self._facts.promises) or None
                for guest, past in zip(guests, pasts, strict=True)
            ],
            RESTS: [round(max(0.0, state.until - now), 1) if state.why_aside else None for state in states],
        }

    @property
    def set_aside(self) -> int:
        """Number of guests that do not cooperate."""
        return sum(bool(past.cooperation.why_aside) for past in self._pasts.values())

    @property
    def described(self) -> DescribedGuests:
        """Last snapshot with guests' memory. Thread-safe."""
        return self._described or self.describe(self._facts)

    def memory_of(self, identity: str) -> GuestMemory | None:
        """Return the memory of one guest; None if its size is unknown."""
        memory = self.described.memories.get(identity)
        return None if memory is None or memory.size is None else memory

    def describe(self, facts: CycleFacts) -> DescribedGuests:
        """Build the memory of all guests, once per cycle."""
        snapshot, guests, now = self.snapshot, self.snapshot.listed, self.snapshot.monotonic
        pasts, promises = self.of_all(guests), facts.promises
        made = [now - (age or 0.0) for age in snapshot.numbers("stats_age")]
        columns: dict[str, Sequence[object]] = {
            "on_its_way": [past.pending is not None for past in pasts],
            "largest": [past.most_since(at - CLOCK_SLACK_SECONDS, now) for past, at in zip(pasts, made, strict=True)],
            "obstacle": [
                guest.why_blocked(CONTROL) or obstacle(guest, past, promises) or (NEW if past.has_come and self._rests(past) else "")
                for guest, past in zip(guests, pasts, strict=True)
            ],
            "pause": [facts.moving.get(guest.id, "") for guest in guests],
            "origin_unknown": self._origin_unknown(pasts, facts),
            "kernel_reserved": [
                kib if past.learned is None or past.learned.usage.kernel.reserved is None else int(past.learned.usage.kernel.reserved)
                for past, kib in zip(pasts, snapshot.numbers("kernel_reserved"), strict=True)
            ],
        }
        if promises is not None:
            columns["guarantee"] = [promises.holds.get(guest.id, 0.0) for guest in guests]
        memories = dict(zip([guest.id for guest in guests], guest_memories(snapshot, columns), strict=True))
        self._facts, self._described = facts, DescribedGuests(snapshot, memories)
        return self._described

    def _origin_unknown(self, pasts: Sequence[Remembered], facts: CycleFacts) -> Sequence[str]:
        unknown, now = frozenset() if facts.promises is None else facts.promises.start_unknown, self.snapshot.monotonic
        if not facts.restores:
            return [START_UNKNOWN if guest.id in unknown else "" for guest in self.snapshot.listed]
        rows = zip(self.snapshot.listed, pasts, *map(self.snapshot.numbers, ("balloon_cur", "balloon_max")), strict=True)
        return [
            START_UNKNOWN if guest.id in unknown else past.why_origin_unknown(size, maximum, now) for guest, past, size, maximum in rows
        ]

    def boots_again(self, past: Remembered) -> bool:
        """Return whether a guest has just rebooted, and the host can spare the memory for its boot."""
        return past.arrival is not None and past.arrival.rebooted_at is not None and self._rests(past)

    def _rests(self, past: Remembered) -> bool:
        return not self._below_hard and past.start_rest(self._start_rest, self.snapshot.monotonic) > 0


def obstacle(guest: Guest, past: Remembered, promises: PromisesKept | None) -> str:
    """Return why mom must not shrink a resizable guest; empty if mom may."""
    pinned = guest.properties.get(PINNED)
    if isinstance(pinned, str) and pinned:
        return pinned
    return PROMISE_UNKNOWN if promises is not None and guest.id in promises.unheard else past.cooperation.why_aside
