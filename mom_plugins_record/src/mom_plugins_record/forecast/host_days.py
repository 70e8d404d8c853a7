"""The days of all guests of a host: takes in what each cycle says, and tells what is expected. For one thread, but for what says so."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Final

from mom_core import Columns, Guest, Snapshot, Value
from mom_kvm import Days
from mom_plugins_record.forecast.curve import (
    COVERAGE,
    FITS,
    LEAST_SHARE,
    LEAST_WEIGHT,
    QUANTILE_STEP,
    RECOVERY,
    UNKNOWN,
    GuestDays,
    SlotExpected,
    SlotSeen,
)
from mom_plugins_record.forecast.past import FIRST_DAY, LARGEST_KIB, MOST_GUESTS, HostPast
from mom_plugins_record.forecast.slots import HOUR_SLOTS, SLOTS, Calendar

SAMPLES: Final = 30
"""Of a slot, of each guest: more tell nothing new, and cost time."""

LEAST_VISITS: Final = 50
"""Guests that are looked at in each cycle, however often each was."""

LEAST_REFRESHED: Final = 12
"""Guests whose forecast is made anew in each cycle, though their slot has not ended."""

SUMMED_EVERY: Final = 100
"""Of so many guests the sum is made in each cycle, of twice as many in every second one."""

CLOSE_WITHIN: Final = 0.3
"""Ratio of a slot. The slots of thousands of guests end at one moment; they are taken in one after the other within this time."""

KEPT_WEEKS: Final = 5
"""So long are the days of a guest kept that is not there."""

ROOM_GUESTS: Final = 1000
"""By so many guests there may be too many until all are gone through: on a host where some guest comes or goes in each cycle, that would
take 5 ms of each."""

SURE_DAYS: Final = 14
"""A wall clock that has run for so long without a jump is right: one that is years behind is noticed before."""

JUMP_SECONDS: Final = 5.0
"""By how much the wall clock may go wrong from one cycle to the next, and has not jumped."""

STEP_KEPT: Final = 0.9
"""Ratio, by cycle. The time between two cycles is usually as long as the longest of the last ones: something may wake mom for others."""

RISE_KIB: Final = 16 * 1024.0
RISE_SHARE: Final = 0.05
"""KiB, and a ratio of what a guest uses. What is less is no rise."""

USED_FIELDS: Final = ("mem_available", "mem_usable", "balloon_cur")
"""Of which it is known what a guest uses: what its kernel has, at most its size, less what is usable."""

PINNED: Final = "pinned"
"""The property of a guest whose memory the host holds whatever the guest uses, or has in a pool of its own, as huge pages."""


@dataclass(slots=True)
class KnownGuest:
    """Guest whose days are learned.

    :param seen: when it was last there, in seconds since the epoch, to a slot
    :param index: the slot that is being seen; -1: none is
    :param whole: whether that slot may be learned: the guest was not started in it
    :param pinned: what it uses is no matter of the host's memory, and no rise is expected of it
    :param used: what it used when it was last looked at; NaN: unknown
    :param first: of which slot the first of `expected` is
    :param weight: how much its forecast counts now; below `LEAST_WEIGHT`, it is not told
    :param middles: what is expected of it in the middle, in the slots that are told; none: nothing is told
    :param rises: the slot in which the rise begins that is expected of it; None: none is
    """

    id: str
    name: str
    days: GuestDays
    seen: float = 0.0
    incarnation: str = ""
    index: int = -1
    whole: bool = False
    pinned: bool = False
    total: float = 0.0
    count: int = 0
    most: float = 0.0
    growth: float = 0.0
    began: float = 0.0
    used: float = math.nan
    used_at: float = -math.inf
    first: int = 0
    expected: Sequence[SlotExpected] = ()
    weight: float = 0.0
    middles: Sequence[float] = ()
    rises: int | None = None

    def sample(self, used: float, monotonic: float) -> None:
        """Add what it uses now to its slot; NaN: unknown."""
        if math.isnan(used):
            self.used = math.nan
            return
        if not self.count:
            self.began = monotonic
        elif used > self.used and monotonic > self.used_at:
            self.growth = max(self.growth, (used - self.used) / (monotonic - self.used_at))
        self.used, self.used_at = used, monotonic
        self.total += used
        self.count += 1
        self.most = max(self.most, used)

    def told(self, index: int) -> SlotExpected | None:
        """What was forecast for a slot; None: nothing that counts."""
        place = index - self.first
        if self.weight < LEAST_WEIGHT or self.pinned:
            return None
        return self.expected[place] if 0 <= place < len(self.expected) else None


class HostDays:
    """Learns the days of a host's guests.

    :param ahead: seconds that are looked ahead for what is told in each cycle
    """

    def __init__(self, calendar: Calendar, ahead: float) -> None:
        self.calendar = calendar
        self.ahead = ahead
        self.known: dict[str, KnownGuest] = {}
        self.past = HostPast(calendar=calendar)
        self.margin = 0.0
        """KiB that are added to what all guests together are expected to take."""
        self.usual = 0.0
        """KiB. What that was wrong by, usually."""
        self._ids: list[str] = []
        self._columns: list[list[int | float | None]] = [[] for _ in GUEST_FIELDS]
        """What is told of guests, by field; of when a rise begins, the slot."""
        self._present: list[KnownGuest] = []
        self._visit = self._refresh = self._cycles = 0
        self._clock: float | None = None
        self._steady = 0.0
        """Since when the wall clock has not jumped, in monotonic seconds."""
        self._host: Mapping[str, Value] = {}
        self._step = self._usual_step = 0.0
        self._index = -1
        self._reach = 1
        self._per_slot = 1.0
        self._now = (0.0, 0.0)
        self._sums: tuple[int, Sequence[KnownGuest], float, float] | None = None

    # --- learn -------------------------------------------------------------------------------------------------------------------

    def see(self, snapshot: Snapshot) -> None:
        """Learn from a cycle: visit a part of the guests, and refresh what is told of another part."""
        self._advance(snapshot)
        self._list(snapshot.listed, snapshot.time)
        self.past.see(snapshot.host)
        count = len(self._present)
        if not count:
            self._host = self._sum_up()
            return
        self._index = self.calendar.index(snapshot.time)
        self._reach = self._window(self.ahead)
        self._per_slot = max(1.0, self.calendar.slot_seconds / max(self._step, 0.1))
        self._visit_some(snapshot, count)
        for place in _places(self._refresh, min(count, LEAST_REFRESHED), count):
            self._tell(self._present[place], place)
        self._refresh = (self._refresh + LEAST_REFRESHED) % count
        if self._cycles % math.ceil(count / SUMMED_EVERY) == 0:
            self._see_sum(self._index)
            self._host = self._sum_up()
        self._cycles += 1

    def _advance(self, snapshot: Snapshot) -> None:
        """Note the time since the last cycle. A jump of the clock, or an absence, interrupts the slots of all guests."""
        now, monotonic = snapshot.time, snapshot.monotonic
        clock = now - monotonic
        self._clock, clock_before, before, self._now = clock, self._clock, self._now, (now, monotonic)
        self._step = max(0.0, monotonic - before[1]) if before[1] else 0.0
        jumped = clock_before is None or abs(clock - clock_before) > JUMP_SECONDS
        if jumped:
            self._steady = monotonic
        if jumped or self._step - self._usual_step > self.calendar.slot_seconds / 2:
            self._interrupt(self._present)
        self._usual_step = max(self._step, STEP_KEPT * self._usual_step)

    def _visit_some(self, snapshot: Snapshot, count: int) -> None:
        """Read what some guests use, in turn, and close the slots that are over."""
        visits = min(count, max(LEAST_VISITS, math.ceil(count * SAMPLES / self._per_slot)))
        closes = max(LEAST_REFRESHED, math.ceil(count / (CLOSE_WITHIN * self._per_slot)))
        totals, usables, sizes = (snapshot.numbers(name) for name in USED_FIELDS)
        covered = self.calendar.slot_seconds / 2 - self._step * count / visits
        for place in _places(self._visit, visits, count):
            guest = self._present[place]
            if guest.index != self._index:
                if not closes:
                    continue  # its slot is closed in a later cycle; this sample would be of the next slot
                closes -= guest.index >= 0
                self._next_slot(guest, place, snapshot.listed[place], self._index, covered)
            guest.sample(_used(totals[place], usables[place], sizes[place]), snapshot.monotonic)
        self._visit = (self._visit + visits) % count

    def _list(self, listed: Sequence[Guest], now: float) -> None:
        """Which guests are there."""
        ids = [guest.id for guest in listed]
        if ids == self._ids:
            return
        for guest in self._present:
            guest.seen = now
        left = {guest.id: guest for guest in self._present}
        self._ids, self._present = ids, []
        for item in listed:
            known = self.known.get(item.id)
            if known is None:
                known = self.known[item.id] = KnownGuest(item.id, item.name, GuestDays(self.calendar))
            known.name, known.seen = item.name, now
            left.pop(item.id, None)
            self._present.append(known)
        self._interrupt(left.values())
        for guest in left.values():
            if not guest.days.slots and guest.id not in self.past.guests:  # it would take the place of item of which something is known
                del self.known[guest.id]
        self._columns = [[None] * len(ids) for _ in GUEST_FIELDS]
        for place, guest in enumerate(self._present):
            self._tell(guest, place)
        count = max(1, len(ids))  # they go on where they were: the last ones' turn comes however often the list changes
        self._visit, self._refresh = self._visit % count, self._refresh % count
        if len(self.known) > MOST_GUESTS + ROOM_GUESTS:
            self.forget(now)

    def forget(self, now: float) -> None:
        """Drop the days of guests that have not been there for long, of too many those worth the least, and past days that lie ahead.

        Nothing for its time before the wall clock has run for a day without a jump: one that is ahead at the start would cost all guests.
        One that is behind would cost all past days: most of them go only once it has run for `SURE_DAYS`.
        """
        day = self.calendar.day_seconds
        steady = (self._now[1] - self._steady) / day
        oldest = now - KEPT_WEEKS * day * self.calendar.week_days if steady >= 1 else -math.inf
        if steady >= 1:
            self.past.forget_after(now, only_few=steady < SURE_DAYS)
        there = set(self._ids)
        absent = sorted((item for item in self.known.values() if item.id not in there), key=self._worth)
        too_many = len(self.known) - MOST_GUESTS
        for place, one in enumerate(absent):
            if one.seen < oldest or place < too_many:
                del self.known[one.id]

    def to_keep(self) -> Sequence[str]:
        """Return the ids of the guests of which something is kept in files: of too many, of those that are worth the most."""
        return [item.id for item in sorted(self.known.values(), key=self._worth, reverse=True)[:MOST_GUESTS]]

    def _worth(self, guest: KnownGuest) -> tuple[bool, float]:
        """By this, guests are kept: thousands that were there for an hour must not cost those their days that are off over a weekend."""
        past = self.past.guests.get(guest.id)
        return guest.days.slots >= SLOTS or (past is not None and len(past.ordinals) > 1), guest.seen

    def merge(self, learned: HostDays) -> int:
        """Take in what was learned elsewhere, of those guests of which more was learned there; of how many that was."""
        count = 0
        for identity, guest in learned.known.items():
            known = self.known.get(identity)
            if known is None:
                self.known[identity] = guest
            elif known.days.slots < guest.days.slots:
                known.days = guest.days
            else:
                continue
            count += 1
        self.margin, self.usual = max(self.margin, learned.margin), max(self.usual, learned.usual)
        return count

    def know_of_past(self) -> None:
        """Know the guests of which nothing but past days was kept, as what is kept of others was lost: else these would be lost, too."""
        for identity, past in self.past.guests.items():
            if identity not in self.known and past.ordinals:
                seen = (past.ordinals[-1] - FIRST_DAY) * self.calendar.day_seconds
                self.known[identity] = KnownGuest(identity, past.name, GuestDays(self.calendar), seen)

    def within_a_slot(self, count: int) -> int:
        """Of how many that is to be done in a cycle, so that it is done of so many within a slot."""
        return math.ceil(count / self._per_slot)

    def _interrupt(self, guests: Iterable[KnownGuest]) -> None:
        """What comes does not follow what was."""
        for guest in guests:
            guest.index, guest.count, guest.expected, guest.middles, guest.weight = -1, 0, (), (), 0.0
            guest.days.interrupt()

    def _next_slot(self, guest: KnownGuest, place: int, listed: Guest, index: int, covered: float) -> None:
        """A guest's slot has ended: learn it, and begin the next one.

        :param place: where it is among all
        :param covered: seconds of it that must have been seen
        """
        started = guest.incarnation not in ("", listed.incarnation)
        if guest.index >= 0 and guest.whole and not started:
            seen = None
            if guest.count and guest.used_at - guest.began >= covered:
                seen = SlotSeen(guest.total / guest.count, guest.most, guest.growth)
            guest.days.close(guest.index, seen)
            if seen is not None:
                self.past.take_in(guest.id, guest.name, guest.index, seen.most, listed.number("balloon_max"))
        elif started:
            guest.days.interrupt()
        guest.whole = index == guest.index + 1 and not started  # otherwise it is seen first in the middle of this slot
        guest.incarnation, guest.index, guest.seen = listed.incarnation, index, self._now[0]
        guest.pinned = bool(listed.properties.get(PINNED))
        guest.total = guest.growth = guest.most = 0.0
        guest.count = 0
        self._expect(guest, index)
        self._tell(guest, place)

    def _expect(self, guest: KnownGuest, index: int) -> None:
        """Make a guest's forecast anew."""
        guest.first = index
        guest.expected = guest.days.ahead(index, self._reach + 1) if guest.days.has_pattern else ()

    def _tell(self, guest: KnownGuest, place: int) -> None:
        """Say what is told of a guest, by its forecast and by what it uses now."""
        days, columns = guest.days, self._columns
        columns[4][place] = int(days.error) if days.wrong[3] else None
        expected = guest.expected[max(0, self._index - guest.first) :]
        window = expected[: self._reach]
        soon = max((item.most + item.margin for item in window), default=UNKNOWN)
        guest.weight = self._weight(guest, window[0]) if window else 0.0
        columns[3][place] = round(guest.weight, 2) if days.has_pattern else None
        if guest.weight < LEAST_WEIGHT or isnan(soon) or isnan(window[0].usual):
            columns[0][place] = columns[1][place] = columns[2][place] = None
            guest.middles, guest.rises = (), None
            return
        guest.middles = () if guest.pinned else tuple([one.middle for one in window])
        columns[0][place], columns[1][place] = int(window[0].usual), math.ceil(max(window[0].usual, soon))
        columns[2][place] = guest.rises = None if guest.pinned else self._rises_in(guest, window)

    def _weight(self, guest: KnownGuest, now: SlotExpected) -> float:
        """Return how much a guest's forecast counts. One that uses far more than was expected at most is found out at once; one that uses
        less may only be late, and is when its slot ends.
        """
        days, used = guest.days, guest.used
        over = used - now.most - now.margin
        usual = FITS * max(LEAST_SHARE * used, days.error)
        return min(days.weight, usual / over) if over > usual else days.weight  # what is unknown is not over

    def _rises_in(self, guest: KnownGuest, window: Sequence[SlotExpected]) -> int | None:
        """Return the slot in which the rise begins that is expected; None: none is. A guest that does not tell what it uses, or was not
        looked at yet, is taken to use what it usually does: it would count as one that is known to use no more.
        """
        used = window[0].usual if isnan(guest.used) else guest.used
        for place, one in enumerate(window):
            if one.most > used + max(RISE_KIB, RISE_SHARE * used, one.margin):
                return self._index + place
        return None

    def _seconds_until(self, slot: int) -> float:
        """Return how long it is until a slot begins; 0: it has."""
        later = slot - self._index
        return round(self.calendar.left(self._now[0]) + (later - 1) * self.calendar.slot_seconds, 1) if later > 0 else 0.0

    def _window(self, seconds: float) -> int:
        """Return how many slots that reaches into, the present one included."""
        left = self.calendar.left(self._now[0])
        return 1 + max(0, math.ceil((seconds - left) / self.calendar.slot_seconds))

    def _see_sum(self, index: int) -> None:
        """What all guests together used, beside what was expected of them: how wrong that is lately."""
        sums = self._sums
        if sums is not None and sums[0] == index:
            used = sum(guest.used for guest in sums[1])
            if used > sums[3]:
                self._sums = (*sums[:3], used)
            return
        if sums is not None and sums[0] == index - 1 and sums[3] >= 0 and all(guest.index >= 0 for guest in sums[1]):
            error = sums[3] - sums[2] - self.margin
            self.usual += RECOVERY * (abs(sums[3] - sums[2]) - self.usual)
            step = QUANTILE_STEP * max(self.usual, RISE_KIB)
            self.margin = max(0.0, self.margin + step * (COVERAGE if error > 0 else COVERAGE - 1))
        expected = [(guest, told) for guest in self._present if (told := guest.told(index)) is not None]
        # Of a slot that was not seen on any day, nothing is expected, whatever pattern the guest has.
        counted = [(guest, told) for guest, told in expected if not isnan(guest.used + told.middle)]
        self._sums = (index, [guest for guest, _ in counted], sum(told.middle for _, told in counted), -math.inf) if counted else None
        if counted:  # they are not more wrong together than each by itself: what was learned of guests that have gone is over
            self.margin = min(self.margin, sum(told.most + told.margin - told.middle for _, told in counted))

    # --- tell --------------------------------------------------------------------------------------------------------------------

    def columns(self, guests: Sequence[Guest]) -> Columns | None:
        """What is told of these guests, by field, in their order; None: nothing is of any."""
        if not self._ids:
            return None
        slots = self._columns[2]
        seconds = {slot: self._seconds_until(slot) if isinstance(slot, int) else None for slot in set(slots)}
        columns = [*self._columns[:2], [seconds[slot] for slot in slots], *self._columns[3:]]
        if [guest.id for guest in guests] != self._ids:
            places = {identity: place for place, identity in enumerate(self._ids)}
            wanted = [places.get(guest.id) for guest in guests]
            columns = [[None if place is None else column[place] for place in wanted] for column in columns]
        return Columns(dict(zip(GUEST_FIELDS, columns, strict=True)))

    def host_fields(self) -> Mapping[str, Value]:
        """Return the host's fields."""
        return self._host

    def _sum_up(self) -> Mapping[str, Value]:
        counted = [guest.days for guest in self._present if guest.days.has_pattern]
        fields: dict[str, Value] = {"guests_forecast": len(counted)}
        if counted:
            fields["host_rise_expected"] = self.rise_expected(self.ahead)
            wrong = stays = 0.0
            for days in counted:  # as their `error` and `now_error`, in a part of the time
                mine, unlearned, _, count = days.wrong
                wrong, stays = wrong + mine / count, stays + unlearned / count
            fields["forecast_error"], fields["forecast_error_unlearned"] = int(wrong), int(stays)
        return fields

    def most_expected(self, uuid: str, seconds: float) -> int | None:
        """As `Forecasts`; from any thread."""
        guest = self.known.get(uuid)
        if guest is None or guest.weight < LEAST_WEIGHT or guest.index < 0:
            return None
        most = max(item.most + item.margin for item in guest.days.ahead(self._index, self._window(seconds)))
        return None if isnan(most) else math.ceil(most)

    def rise_expected(self, seconds: float) -> int:
        """As `Forecasts`; from any thread."""
        count, index = self._window(seconds), self._index
        counted = [guest for guest in list(self._present) if guest.middles]
        if count <= self._reach:
            told, rises = [(guest.used, guest.middles) for guest in counted], [guest.rises for guest in counted]
        else:
            ahead = [guest.days.ahead(index, count) for guest in counted]
            told = [(guest.used, tuple([one.middle for one in window])) for guest, window in zip(counted, ahead, strict=True)]
            rises = [self._rises_in(guest, window) for guest, window in zip(counted, ahead, strict=True)]
        first = min((slot - index for slot in rises if slot is not None), default=count)  # before that, there is no rise to be wrong by
        known = [(used, middles) for used, middles in told if not isnan(used + sum(middles))]
        used = sum([used for used, _ in known])
        sums = [sum(column) for column in zip(*[middles for _, middles in known], strict=False)]
        margins = (self.margin * math.sqrt(min(max(1, place), HOUR_SLOTS)) if place >= first else 0.0 for place in range(count))
        more = (whole - used + margin for whole, margin in zip(sums, margins, strict=False))
        return max(0, math.ceil(max(more, default=0.0)))

    def days(self, uuid: str) -> Days | None:
        """As `Forecasts`; from any thread."""
        guest = self.known.get(uuid)
        return None if guest is None or not guest.days.slots else days_of(guest)


GUEST_FIELDS: Final = ("mem_used_expected", "mem_used_expected_soon", "mem_rises_in", "mem_expected_weight", "mem_expected_error")


def days_of(guest: KnownGuest) -> Days:
    """What was learned of a guest, to be handed out."""
    days, calendar = guest.days, guest.days.calendar
    monday = next(index for index in range(calendar.week_slots) if calendar.of_week(index) == 0)
    week = range(monday, monday + calendar.week_slots)
    expected = [days.expected(index) for index in week]
    most = [value + days.excess_of(index) for index, value in zip(week, expected, strict=True)]
    return Days(
        guest.id, guest.name, calendar.slot_seconds, calendar.week_slots // calendar.week_days, calendar.week_days,
        _known(expected), _known(most), _known([days.error])[0], days.margin if days.wrong[3] else None, _known(days.hour_errors),
        _known([days.now_error])[0], _known(days.growth), _known(days.last.whole()), days.slots, days.has_pattern, round(days.weight, 3),
    )  # fmt: skip


def _known(values: Sequence[float] | array[float]) -> tuple[float | None, ...]:
    return tuple(None if isnan(value) else round(value, 1) for value in values)


def _used(total: float | None, usable: float | None, size: float | None) -> float:
    """Return what a guest uses in KiB; NaN for what is unknown or impossible, which would spoil the file of all guests' days."""
    if total is None or usable is None:
        return math.nan
    used = max(0.0, (total if size is None or total < size else size) - usable)
    return used if used <= LARGEST_KIB else math.nan


def _places(first: int, count: int, whole: int) -> Iterable[int]:
    """So many places from the first on, in a circle."""
    end = first + count
    return range(first, end) if end <= whole else (*range(first, whole), *range(end - whole))
