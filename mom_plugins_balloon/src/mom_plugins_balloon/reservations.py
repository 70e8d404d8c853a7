"""Memory that is kept for launches: who asked for how much, what is there of it, and when it is free again.

Guests give for it by whatever policy is in force, which reads how much is reserved in the host field `mem_reserved`. What is here only
promises, counts and forgets.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from mom_core import Guest, MomError, PluginContext, Snapshot, StateError, UnitError, format_duration, format_kib, printable
from mom_kvm import (
    Admissions,
    Forecasts,
    LaunchedGuest,
    Reservation,
    ReservationRefused,
    ReservationState,
    Room,
    boot_id,
    pid_of,
    seen_lately,
)
from mom_plugins_balloon.ballooned_guests import BalloonedGuest, BalloonedGuests
from mom_plugins_balloon.gate import ShrinkLimits
from mom_plugins_balloon.names import AHEAD, EXPECTED, RESERVED, RISE, STOPPED_BELOW, SUGGESTED
from mom_plugins_balloon.parameters import LawParameters, ReservationSettings
from mom_plugins_balloon.promises import guaranteed_kib
from mom_plugins_balloon.room import Spare, returning_kib, seconds_to_free, spare_of
from mom_plugins_balloon.seen import used_kib
from mom_plugins_balloon.states import hard_kib
from mom_plugins_balloon.sweep.qemu_process import QemuProcess

LEAST_KIB: Final = 1024
MOST_KIB: Final = 1 << 40
"""KiB. 1 MiB to 1 PiB: what is outside is a mistake in the unit."""

LEAST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 86400.0
"""A reservation is for a launch. Memory that a host is to have for longer belongs in its policy, as `host_free` of the plugin balloon."""

MOST_RESERVATIONS: Final = 256
"""At once: a management system that asks for more has lost count."""

_ENDED: Final = 100
"""Ended reservations that can still be asked for, so that who waited learns how it went."""

RISE_SECONDS: Final = (300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0)
NEARLY_ALL: Final = 0.9
"""The first of these seconds within which guests are expected to take so much of it all is said."""

TOUCHED_KIB: Final = 16384
"""When a guest has touched all but this of what was kept for it, it has taken it."""

LISTED_BEFORE_SECONDS: Final = 10.0
"""libvirt lists a guest that it starts from before it runs the hook that asks mom: so long before it asks, mom may have met it. The hook
starts within a second, and on a busy host within some."""

SHORT_SECONDS: Final = 30.0
"""Only when so long too little can be had, it is said: while guests shrink, what they can spare still is unknown."""

AWAY_SECONDS: Final = 600.0
"""Without any guest the hypervisor is away, and its guests run on: for so long what they may want back or take is kept for them."""

_LONGEST_NAME: Final = 200
_Moment = Annotated[float, Field(ge=0, lt=1 << 36)]
"""Seconds since the epoch, or since the host was started: no clock shows more."""


@dataclass(frozen=True, slots=True)
class KeptReservation:
    """One reservation as it is kept, also on disk. `made`, `deadline`, `taken_at` and `launch_until` are of the monotonic clock.

    Until `launch_until` it is for the guest `launch` alone, by id or name, which is about to be started.
    """

    id: str
    memory_kib: Annotated[int, Field(ge=LEAST_KIB, le=MOST_KIB)]
    name: str
    who: str
    created: _Moment
    made: _Moment
    deadline: _Moment
    guest: str = ""
    guest_name: str = ""
    incarnation: str = ""
    taken_at: _Moment | None = None
    launch: str = ""
    launch_until: _Moment = 0.0
    launched: bool = False
    """It was made for that launch, and ends with the guest."""
    asked_kib: Annotated[int, Field(ge=0, le=MOST_KIB)] = 0
    """What it was made with, where it was enlarged for that launch; 0: it was not."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What is on disk: of which run of the host and when in it that was, which guests there were (their incarnations), and what is kept."""

    boot: str
    monotonic: _Moment
    guests: dict[str, str]
    reservations: Annotated[tuple[KeptReservation, ...], Field(max_length=MOST_RESERVATIONS)]


@dataclass(eq=False)
class HostReservations:
    """The balloon plugin's `Reservations`."""

    settings: ReservationSettings
    law: LawParameters
    context: PluginContext
    guests: BalloonedGuests
    """What was seen last, and of each guest."""
    limits: Callable[[], ShrinkLimits]
    """Gives what the operator allows."""
    why_none_gives: Callable[[], str]
    """Why no guest is shrunk at all now, such as that mom only observes; empty when they are."""
    loaded: bool = False
    """Whether `load` has been called: until then, what an earlier run or the plugin of before a reload keeps is not known."""
    _followed: bool = False
    """Whether a cycle has ended since."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _kept: dict[str, KeptReservation] = field(default_factory=dict)
    _ended: deque[Reservation] = field(default_factory=lambda: deque(maxlen=_ENDED))
    _short_since: dict[str, float] = field(default_factory=dict)
    """Reservations for which too little can be had, and since when."""
    _snapshot: Snapshot | None = None
    _with_guests: Snapshot | None = None
    """The last one in which there were guests."""
    _takers: Mapping[str, Guest] = field(default_factory=dict)
    """The guests that have come for reservations, by id, as they were listed last."""

    def __post_init__(self) -> None:
        loss = "the reservations of the last run have ended"
        self._file = self.context.state_file("reservations.json", "the file of reservations", TypeAdapter(_Written), loss=loss)

    # --- Reservations -----------------------------------------------------------------------------------------------------------------

    def room(self) -> Room:
        """The room for reservations now."""
        with self._lock:
            self._end_what_is_over()
            return self._room(self._current())[0]

    def reserve(self, memory_kib: int, seconds: float, *, name: str = "", who: str = "") -> Reservation:
        """Keep so much for so long, or refuse at once."""
        _sensible(memory_kib, seconds, name)
        with self._in_force():
            room = self._room_for(memory_kib, seconds)
            if len(self._kept) >= MOST_RESERVATIONS:
                raise MomError(f"{MOST_RESERVATIONS} reservations are made already", hint="release some")
            now = self.context.monotonic()
            one = KeptReservation(secrets.token_hex(4), memory_kib, name, printable(who, 200), time.time(), now, now + seconds)
            self._kept[one.id] = one
            self._write()
            made = self._described()[one.id]
        whom = f" (guest {printable(name)})" if name else ""
        size, there, last = format_kib(memory_kib), format_kib(made.there_kib), format_duration(seconds)
        rise = f"; {room.rise}" if room.rise else ""
        self.context.log.info("reservation %s of %s for %s by %s%s: %s of it is there%s", one.id, size, last, one.who, whom, there, rise)
        self.context.wake(f"{size} were reserved")
        return made

    def keep_for(self, guest: LaunchedGuest, seconds: float, *, part_kib: int, who: str = "") -> Reservation:
        """Keep memory for a guest that is about to be started. What is kept for it already, or for any that fits, is for it alone now,
        and is enlarged where the guest is larger, until it has come.

        Raises as `reserve` does.

        :param part_kib: how much of its memory is to be kept, beside what is kept for it already
        """
        with self._in_force():
            until = self.context.monotonic() + seconds
            fitting = [one for one in self._kept.values() if one.taken_at is None and self._fits(one, guest, guest.memory_kib)]
            # One that was made for an earlier try of this launch comes before the operator's.
            one = min(fitting, key=lambda kept: (not kept.launched, *_particular(kept)), default=None)
            if one is None:
                made = self.reserve(part_kib, seconds, name=_pattern_of(guest), who=who)
                one = replace(self._kept[made.id], launched=True)
            elif (lacks := min(guest.memory_kib - one.memory_kib, part_kib)) >= LEAST_KIB:
                self._room_for(lacks, seconds)
                one = replace(one, memory_kib=one.memory_kib + lacks, asked_kib=one.asked_kib or one.memory_kib)
                size = format_kib(one.memory_kib)
                self.context.log.info("reservation %s is enlarged to %s for the start of guest %s", one.id, size, printable(guest.name))
            launch, deadline = guest.id or guest.name, max(one.deadline, until)
            self._kept[one.id] = replace(one, launch=launch, launch_until=until, deadline=deadline)
            self._write()
            return self._described()[one.id]

    def _fits(self, one: KeptReservation, guest: Guest | LaunchedGuest, size: float | None) -> bool:
        """True if a reservation is for this guest's launch, is named for it, or has room for any guest of this size (None: unknown)."""
        if one.launch and self.context.monotonic() < one.launch_until:
            return one.launch in {guest.id, guest.name}
        if one.name:
            return any(_matches(called, one.name) for called in (guest.name, guest.id) if called)
        return size is not None and size <= one.memory_kib

    def _room_for(self, memory_kib: int, seconds: float) -> Room:
        """The room, which has so much more within so long. Raises `ReservationRefused` where it has not."""
        room, spare = self._room(self._current())
        if memory_kib > room.most_kib:
            raise _too_much(memory_kib, room)
        self._ask_for_admission(memory_kib, room)
        expected = seconds_to_free(max(0, memory_kib - room.unreserved_kib), spare, self.context.interval, self.law)
        if expected is None or expected > seconds:
            raise _too_slow(memory_kib, seconds, expected, room)
        return room

    def _ask_for_admission(self, memory_kib: int, room: Room) -> None:
        """Refuse what no guest could be started for without breaking a promise, where a plugin knows promises.

        Raises `ReservationRefused`. What is not known there refuses nothing: the room was looked at.
        """
        admissions, answer = self.context.service(Admissions), None
        with contextlib.suppress(MomError):
            answer = None if admissions is None else admissions.admission(memory_kib)
        if answer is not None and not answer.admitted:
            message = f"no guest of {format_kib(memory_kib)} could be started: it would break a promise to others"
            raise ReservationRefused(message, room=room, hint=answer.reasons[0] if answer.reasons else "see `mom admit`")

    def reservations(self) -> Sequence[Reservation]:
        """Those that last, and the last ones that have ended."""
        with self._lock:
            self._end_what_is_over()
            return [*self._described().values(), *self._ended]

    def release(self, identity: str, *, who: str = "") -> Reservation:
        """End one."""
        with self._in_force():
            if identity not in self._kept:
                ended = next((one for one in self._ended if one.id == identity), None)
                there_is_none = f"there is no reservation {printable(identity)}"
                said = f"reservation {printable(identity)} has ended: it is {ended.state}" if ended else there_is_none
                raise MomError(said, hint=f"there are: {', '.join(self._kept) or 'none'}")
            released = self._end(identity, ReservationState.RELEASED, f"released by {printable(who, 200)}")
            self._write()
        self.context.wake("memory was released")
        return released

    def give_up(self, identity: str, *, who: str) -> None:
        """End what is kept for a launch that was refused, if it lasts. What was not made for it is as it was before."""
        with self._lock, contextlib.suppress(MomError):  # it may end by itself in this very moment
            one = self._kept.get(identity)
            if one is not None and one.launched:
                self.release(identity, who=who)
            elif one is not None:
                self._kept[identity] = replace(one, launch="", launch_until=0.0)  # whoever looks next takes off what it was enlarged by
                self._write()

    # --- once in each cycle -------------------------------------------------------------------------------------------------------------

    def reserved_kib(self) -> int:
        """The memory that is kept and not touched by a guest yet, now: what is available on the host is read in the same moment."""
        with self._lock:
            self._end_what_is_over()
            return sum(self._kept_kib(one, now=True) for one in self._kept.values())

    def follow(self) -> Sequence[Reservation]:
        """See who has come, and what is there now.

        :return: reservations for which not all can be had any more; their notes say why
        """
        with self._lock:
            snapshot = self._snapshot = self.guests.snapshot
            self._with_guests = snapshot if snapshot.guests else self._with_guests
            if self.loaded and not self._followed:
                self._take_over()
            if self._take(snapshot):
                self._write()
            self._end_what_is_over()
            return [one for one in self._described().values() if one.note]

    # --- on disk ------------------------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take up what an earlier run of mom kept, unless the host was started anew since. Damage is said, and costs the reservations."""
        with self._lock:
            self.loaded = True
            found = self._file.read()
            if found is None:
                return
            if not self._is_of_this_boot(found):
                self.context.log.warning("%d reservations from before the host was started anew have ended", len(found.reservations))
                return
            self._kept = {one.id: one for one in found.reservations}
            self.guests.earlier = found.guests
            for one in found.reservations:
                if one.taken_at is not None:
                    self.guests.expect(one.guest, one.incarnation)
            self._end_what_is_over()
            if self._kept:
                self.context.log.info("took over %d reservations of an earlier run", len(self._kept))

    def _is_of_this_boot(self, found: _Written) -> bool:
        return found.boot == boot_id(self.context.root / "proc") and found.monotonic <= self.context.monotonic()

    def _take_over(self) -> None:
        """Take up what the plugin that a reload has replaced was asked for until it ended, after `load` had looked."""
        self._followed = True
        with contextlib.suppress(StateError):
            found = self._file.look()
            if found is None or self._is_of_this_boot(found):
                self._kept = {} if found is None else {one.id: one for one in found.reservations}

    def close(self) -> None:
        """Keep nothing more, and leave what is on disk to the plugin that has taken this one's place, or to the next mom."""
        with self._lock:
            self._file.left = True

    def _write(self) -> None:
        guests, boot = self.guests.incarnations(), boot_id(self.context.root / "proc")
        written = _Written(boot, self.context.monotonic(), guests, tuple(self._kept.values()))
        # What cannot be written lasts until mom ends; mom says what is wrong with the file.
        with contextlib.suppress(StateError):
            if self._kept:
                self._file.write(asdict(written))
            else:
                self._file.remove()

    @contextlib.contextmanager
    def _in_force(self) -> Iterator[None]:
        """With the lock held, by what lasts still. Raises `MomError` where whoever asks has this from before a reload."""
        with self._lock:
            if self._file.left:
                raise MomError("mom ends, or has taken another configuration: nothing has changed", hint="ask again in a moment")
            self._end_what_is_over()
            yield

    # --- inside: the lock is held -------------------------------------------------------------------------------------------------------

    def _current(self) -> Snapshot:
        snapshot = seen_lately(self._snapshot, self.context, "nothing can be promised")
        if snapshot.host.number("mem_really_available") is None:
            raise MomError("what is available on the host is not known", hint="enable a plugin that collects it, such as host")
        if self.settings.host_keeps is None and snapshot.host.number("mem_available") is None:
            raise MomError("how much memory the host has is not known, so neither is what it keeps", hint="set reservations.host_keeps")
        return snapshot

    def _room(self, snapshot: Snapshot) -> tuple[Room, Spare]:
        host, why = snapshot.host, self.why_none_gives()
        spare = Spare(0.0, 0.0) if why else spare_of(self.guests, self.law, self.limits(), self.context.interval)
        keeps = max(hard_kib(host.number("mem_available") or 0.0), host.number("mem_growth_peak") or 0.0)
        if self.settings.host_keeps is not None:
            keeps = self.settings.host_keeps / 1024
        keeps += host.number(STOPPED_BELOW) or 0.0
        last = self._with_guests
        told = snapshot if last is None or snapshot.monotonic - last.monotonic > AWAY_SECONDS else last
        room = Room(
            available_kib=int(host.number("mem_really_available") or 0),
            host_keeps_kib=math.ceil(keeps),
            reserved_kib=sum(map(self._kept_kib, self._kept.values())),
            can_free_kib=int(spare.sure),
            guaranteed_kib=int(sum(guaranteed_kib(guest.fields) or 0.0 for guest in told.guests.values())),
            why=why,
            can_offload_kib=int(spare.cold),
            returning_kib=math.ceil(returning_kib(told)),
            rising_kib=self._rising_kib(told.host.number(AHEAD) or 0.0),
            rising_until=self._rising_until(told.host.number(RISE) or 0.0),
        )
        return room, spare

    def _rising_kib(self, ahead: float) -> int:
        """What guests are expected to take before long, of which `ahead` is to be available, without what is kept for those of them that
        have come for it: it would be kept twice, and after a reboot of the host most of its guests would find no room for their starts."""
        takers = [(one, self._takers.get(one.guest)) for one in self._kept.values() if one.taken_at is not None] if ahead else []
        twice = sum(min(self._kept_kib(one), _usual_rise_kib(guest)) for one, guest in takers if guest is not None)
        return max(0, math.ceil(ahead - self.law.rise_share * twice))

    def _rising_until(self, rise: float) -> float:
        """By when guests will have taken what they are expected to take; seconds since the epoch, 0: unknown."""
        forecasts = self.context.service(Forecasts) if rise else None
        if forecasts is None:
            return 0.0
        within = (seconds for seconds in RISE_SECONDS if forecasts.rise_expected(seconds) >= NEARLY_ALL * rise)
        return time.time() + first if (first := next(within, 0.0)) else 0.0

    def _kept_kib(self, one: KeptReservation, *, now: bool = False) -> int:
        """The memory that is kept for a reservation still: by the last snapshot, as what is available is of that, too; or by what the
        kernel says now."""
        guest = None if one.taken_at is None else self._takers.get(one.guest)
        if guest is None:
            return one.memory_kib
        wanted = min(one.memory_kib, guest.whole("balloon_max") or one.memory_kib)
        return max(0, wanted - int(self._held_kib(guest) if now else guest.number("rss") or 0.0))

    def _held_kib(self, guest: Guest) -> float:
        """The memory that a guest's process holds now: a guest that boots touches gigabytes between two cycles."""
        pid = pid_of(guest)
        process = None if pid is None else QemuProcess(pid, self.context.root / "proc").read()
        return guest.number("rss") or 0.0 if process is None else process.resident

    def _take(self, snapshot: Snapshot) -> bool:
        """See who has come for a reservation and who has gone; whether that changed one."""
        if not self._kept:
            self._takers = {}
            return False
        before, now = dict(self._kept), self.context.monotonic()
        for identity, one in before.items():
            if self._still_comes(one, snapshot):
                self._kept[identity] = replace(one, taken_at=now)
                continue
            memory = self.guests.of(one.guest)  # also where one or two lists lack the guest
            if one.taken_at is None or not snapshot.guests or (memory is not None and memory.incarnation == one.incarnation):
                continue
            if one.launched:
                self._end(identity, ReservationState.USED, f"guest {printable(one.guest_name)} has come for it, and is gone")
                continue
            self._kept[identity] = replace(one, guest="", guest_name="", incarnation="", taken_at=None)
            self.context.log.warning("guest %s, which came for reservation %s, is gone: it is kept on", printable(one.guest_name), identity)
        open_ones = sorted((one for one in self._kept.values() if one.taken_at is None), key=_particular)
        oldest = min((one.made for one in open_ones), default=math.inf) - LISTED_BEFORE_SECONDS
        records = zip(snapshot.listed, self.guests.of_all(snapshot.listed), strict=True)
        came = [(snapshot.guests[guest.id], memory) for guest, memory in records if memory.came_at > oldest]
        for one in open_ones:
            guest, memory = next((each for each in came if self._is_for(one, *each)), (None, None))
            if guest is not None and memory is not None:
                taken = replace(one, guest=guest.id, guest_name=guest.name, incarnation=guest.incarnation, taken_at=now)
                self._kept[one.id] = taken
                memory.came_at = -math.inf  # it has what it came for, and takes no other
                self.context.log.info("guest %s has come for reservation %s", printable(guest.name), one.id)
        takers = [(one.guest, snapshot.guests.get(one.guest) or self._takers.get(one.guest)) for one in self._kept.values()]
        self._takers = {identity: guest for identity, guest in takers if guest is not None}
        return self._kept != before

    def _still_comes(self, one: KeptReservation, snapshot: Snapshot) -> bool:
        """True if the guest that has come for it is not all here: it is moved to this host, which may take minutes, and its memory still
        arrives. Nothing can be changed of it until it runs."""
        guest, before = snapshot.guests.get(one.guest), None if one.taken_at is None else self._takers.get(one.guest)
        if guest is None or before is None or not guest.blocked.get("*") or guest.incarnation != one.incarnation:
            return False
        held, had = guest.number("rss"), before.number("rss")
        return held is not None and had is not None and held > had

    def _is_for(self, one: KeptReservation, guest: Guest, memory: BalloonedGuest) -> bool:
        """True if this guest was started after the reservation was made, and for it: it is named by it, or fits into one for any guest.

        The guest of which a launch was asked may have been listed already.
        """
        early = LISTED_BEFORE_SECONDS if one.launch in {guest.id, guest.name} else 0.0
        return memory.came_at > one.made - early and self._fits(one, guest, guest.number("balloon_max"))

    def _end_what_is_over(self) -> None:
        """Also on disk: what has ended must not begin anew with the next run of mom."""
        now, before = self.context.monotonic(), len(self._kept)
        for identity, one in list(self._kept.items()):
            if one.taken_at is None:
                if one.asked_kib and now >= one.launch_until:  # the guest for which it was enlarged has not come
                    self._kept[identity] = replace(one, memory_kib=one.asked_kib, asked_kib=0)
                if now >= one.deadline:
                    self._end(identity, ReservationState.EXPIRED, "no guest came for it in time")
            elif self._kept_kib(one) < TOUCHED_KIB:
                self._end(identity, ReservationState.USED, f"guest {printable(one.guest_name)} has it")
            elif now - one.taken_at >= self.settings.settle:
                left = format_kib(self._kept_kib(one))
                self._end(identity, ReservationState.USED, f"guest {printable(one.guest_name)} has what it wanted; {left} were not touched")
        if len(self._kept) != before:
            self._write()

    def _end(self, identity: str, state: ReservationState, note: str) -> Reservation:
        described = replace(self._describe(self._kept.pop(identity), note), state=state, expires_in_seconds=0.0)
        self._short_since.pop(identity, None)
        self._ended.append(described)
        self.context.log.info("reservation %s of %s is %s: %s", identity, format_kib(described.memory_kib), state, note)
        return described

    def _described(self) -> dict[str, Reservation]:
        """All that last, as they are now: what is there is there for the oldest first."""
        if not self._kept:
            return {}
        try:
            room, spare = self._room(self._current())
        except MomError as error:
            return {identity: self._describe(one, error.message, self._kept_kib(one)) for identity, one in self._kept.items()}
        now, left = self.context.monotonic(), room.unreserved_kib + room.reserved_kib + room.rising_kib
        described: dict[str, Reservation] = {}
        for identity, one in self._kept.items():
            kept = self._kept_kib(one)
            there = max(0, min(left, kept))
            left -= kept
            missing = -left if there < kept else 0
            expected = seconds_to_free(missing, spare, self.context.interval, self.law)
            note = ""
            if expected is not None:
                self._short_since.pop(identity, None)
            elif now - self._short_since.setdefault(identity, now) >= SHORT_SECONDS:
                why = room.why or "guests have come to need what they could spare"
                note = f"{format_kib(missing - spare.total - spare.cold)} cannot be had any more: {why}"
            described[identity] = self._describe(one, note, kept, there, expected)
        return described

    def _describe(self, one: KeptReservation, note: str, kept: int = 0, there: int = 0, expected: float | None = None) -> Reservation:
        state = ReservationState.READY if there >= kept else ReservationState.MAKING
        until, guest = one.deadline, None
        if one.taken_at is not None:
            state, until = ReservationState.TAKEN, one.taken_at + self.settings.settle
            guest = Guest(one.guest, one.guest_name).entity
        left, come = max(0.0, until - self.context.monotonic()), max(0, kept - there)
        return Reservation(one.id, one.memory_kib, state, one.name, one.who, one.created, left, kept, there, come, expected, guest, note)


def _particular(one: KeptReservation) -> tuple[bool, int]:
    """Who names a guest comes first; of those for any guest the smallest, so that a small guest leaves a large reservation alone."""
    return not one.name, one.memory_kib


def _usual_rise_kib(guest: Guest) -> float:
    """What a guest usually uses at this time beyond what it uses now; 0 where one of them is unknown."""
    expected, used = guest.number(EXPECTED), used_kib(*map(guest.number, ("mem_available", "balloon_cur", "mem_usable")))
    return 0.0 if expected is None or used is None else max(0.0, expected - used)


def _matches(called: str, pattern: str) -> bool:
    """Whether a name or id matches. `fnmatch` remembers 32,768 patterns, some 40 MiB: a platform that reserves for each guest by its name
    would fill that, and a plain name needs none of it."""
    return fnmatch.fnmatchcase(called, pattern) if glob.has_magic(pattern) else called == pattern


def _pattern_of(guest: LaunchedGuest) -> str:
    """A pattern that its name or id alone matches, where one of them can be a pattern; something to show, where none can."""
    named = (glob.escape(name) for name in (guest.name, guest.id, printable(guest.name, _LONGEST_NAME // 4)) if name)
    return next(name for name in named if name.isprintable() and len(name) <= _LONGEST_NAME)


def _sensible(memory_kib: int, seconds: float, name: str) -> None:
    if not LEAST_KIB <= memory_kib <= MOST_KIB:
        hint = f"from {format_kib(LEAST_KIB)} to {format_kib(MOST_KIB)}"
        raise UnitError(f"{format_kib(memory_kib)} is no size for a reservation", hint=hint)
    if not LEAST_SECONDS <= seconds <= LONGEST_SECONDS:
        bounds = f"from {format_duration(LEAST_SECONDS)} to {format_duration(LONGEST_SECONDS)}"
        raise UnitError(f"a reservation does not last {seconds:g} s", hint=f"{bounds}; what is longer belongs in the policy")
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise UnitError(f"{printable(name)!r} is no pattern for a guest's name or id", hint=f"at most {_LONGEST_NAME} printable characters")


def _too_much(memory_kib: int, room: Room) -> ReservationRefused:
    message = f"{format_kib(memory_kib)} cannot be had: at most {format_kib(room.most_kib)} can"
    why = f" ({room.why})" if room.why else ""
    parts = [f"{format_kib(room.available_kib)} are available", f"guests can give {format_kib(room.can_free_kib)}{why}"]
    if room.can_offload_kib:
        parts.append(f"{format_kib(room.can_offload_kib)} that they hardly touch can go to swap")
    if room.returning_kib:
        parts.append(f"{format_kib(room.returning_kib)} are kept for what guests may want back from swap")
    if room.rise:
        parts.append(room.rise)
    parts += [f"the host keeps {format_kib(room.host_keeps_kib)}", f"{format_kib(room.reserved_kib)} are reserved already"]
    return ReservationRefused(message, room=room, hint=", ".join(parts))


def _too_slow(memory_kib: int, seconds: float, expected: float | None, room: Room) -> ReservationRefused:
    when = "it is unknown when" if expected is None else f"in some {expected:.0f} s"
    message = f"{format_kib(memory_kib)} can be had {when}, which is after the deadline in {format_duration(seconds)}"
    return ReservationRefused(message, room=room, hint=f"{format_kib(room.free_kib)} can be had at once; or ask for longer")


def policies_reserve(texts: Iterable[str]) -> bool:
    """True if any of these policies goes by what is reserved, or takes the law's suggestions, which do."""
    return any(RESERVED in text or SUGGESTED in text for text in texts)
