"""Daily memory use of all guests of a host: learned from each cycle, and forecast. Not thread-safe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Final, NamedTuple

from mom_core import Columns, Guest, Host, Snapshot, Value
from mom_kvm import GuestField
from mom_plugins_record.forecast.curve import (
    COVERAGE,
    FITS,
    LEAST_SHARE,
    LEAST_WEIGHT,
    QUANTILE_STEP,
    RECOVERY,
    SLOTS,
    UNKNOWN,
    WEEK_DAYS,
    Calendar,
    GuestDays,
    SlotExpected,
    SlotSeen,
)
from mom_plugins_record.forecast.past import LARGEST_KIB, GuestPast, is_size

EACH_CYCLE: Final = 100
"""mom refreshes the figures of about this many guests in a cycle."""

REACH: Final = 2
"""Number of slots that the forecast of each cycle reaches: the present and the next one, so at least 15 minutes."""

KEPT_WEEKS: Final = 5

MOST_GUESTS: Final = 5000
"""Maximum number of guests with stored days, 8 KiB each. Beyond it, mom forgets absent guests: those without a whole learned day
first, then those absent for longest."""

LONGEST_NAME: Final = 256

JUMP_SECONDS: Final = 5.0
"""Smallest drift of the wall clock in a cycle, in seconds, that counts as a jump."""

STEP_KEPT: Final = 0.9
"""Factor per cycle by which the usual time between cycles decays. The longest recent time counts, because plugins may wake mom early."""

RISE_KIB: Final = 16 * 1024.0
RISE_SHARE: Final = 0.05
"""An expected rise counts if it exceeds both `RISE_KIB` and this fraction of the guest's use."""

USED_FIELDS: Final = ("mem_available", "mem_usable", "balloon_cur")
"""Fields from which mom calculates a guest's use: its kernel's total, capped at the balloon's size, minus the usable memory."""

PINNED: Final = "pinned"
"""Guest property: the guest's use does not change the host's memory, for example with huge pages from a pool."""


@dataclass(slots=True)
class GuestSlot:
    """Samples of a guest's use in the present slot, in KiB, and the forecast. The defaults are for a guest without a slot.

    :param whole: the guest has run for the whole slot
    :param used: use at the last sample; NaN if unknown
    :param expected: expected use from this slot on; empty without a pattern
    :param middles: averages of `expected`; empty if unusable or `pinned`
    :param rises: slot of an expected rise; None if no rise is expected
    """

    index: int = -1
    whole: bool = False
    pinned: bool = False
    incarnation: str = ""
    expected: Sequence[SlotExpected] = ()
    total: float = 0.0
    count: int = 0
    most: float = 0.0
    began: float = 0.0
    used: float = math.nan
    used_at: float = -math.inf
    weight: float = 0.0
    middles: Sequence[float] = ()
    rises: int | None = None

    def sample(self, used: float, monotonic: float) -> None:
        """Add the present use (NaN if unknown)."""
        self.used = used
        if isnan(used):
            return
        if not self.count:
            self.began = monotonic
        self.used_at = monotonic
        self.total += used
        self.count += 1
        self.most = max(self.most, used)

    def seen(self, covered: float) -> SlotSeen | None:
        """Return the use in this slot; None if the samples cover less than `covered` seconds."""
        if not self.count or self.used_at - self.began < covered:
            return None
        return SlotSeen(self.total / self.count, self.most)


@dataclass(slots=True)
class KnownGuest:
    """Guest whose daily memory use mom learns.

    :param present_at: when the guest was last present, in seconds since the epoch; accurate to a slot
    """

    id: str
    name: str
    days: GuestDays
    present_at: float = 0.0
    past: GuestPast = field(default_factory=GuestPast)
    slot: GuestSlot = field(default_factory=GuestSlot)

    @property
    def is_known(self) -> bool:
        """Whether mom has learned anything about the guest."""
        return bool(self.days.slots or self.past.by_day)


class _ExpectedSum(NamedTuple):
    slot: int
    guests: Sequence[KnownGuest]
    expected: float
    used: float = -math.inf


class HostDays:
    """Learned days of a host's guests."""

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.known: dict[str, KnownGuest] = {}
        self.host_name = ""
        self.host_kib: float | None = None
        """The host's memory; `promisable_kib` is the part that mom can promise to guests."""
        self.promisable_kib: float | None = None
        self.margin = 0.0
        """KiB added to the expected growth of all guests together."""
        self.usual = 0.0
        """Usual error of the expected growth of all guests, in KiB."""
        self._ids: list[str] = []
        self._columns: list[list[int | float | None]] = [[] for _ in GUEST_FIELDS]
        """Values of guests, a list for each of `GUEST_FIELDS`. For an expected rise, the value is the rise's first slot."""
        self._present: list[KnownGuest] = []
        self._cycles = 0
        self._clock: float | None = None
        self._host: Mapping[str, Value] = {}
        self._step = self._usual_step = 0.0
        self._index = -1
        self._now = (0.0, 0.0)
        self._sum: _ExpectedSum | None = None

    def see(self, snapshot: Snapshot) -> None:
        """Learn from a cycle."""
        self._advance(snapshot)
        self._update_list(snapshot.listed, snapshot.time)
        self._see_host(snapshot.host)
        self._cycles += 1
        self._index = self.calendar.index(snapshot.time)
        every = 1 + len(self._present) // EACH_CYCLE
        self._sample(snapshot, every)
        if self._cycles % every == 0:
            self._learn_sum(self._index)
            self._host = self._sum_up()

    def _see_host(self, host: Host) -> None:
        self.host_name = host.name[:LONGEST_NAME] or self.host_name
        total, promisable = host.number("mem_available"), host.number("mem_promisable")
        self.host_kib = total if is_size(total) else self.host_kib
        self.promisable_kib = promisable if is_size(promisable) else self.promisable_kib

    def _advance(self, snapshot: Snapshot) -> None:
        now, monotonic = snapshot.time, snapshot.monotonic
        clock = now - monotonic
        self._clock, clock_before, before, self._now = clock, self._clock, self._now, (now, monotonic)
        self._step = max(0.0, monotonic - before[1]) if before[1] else 0.0
        jumped = clock_before is None or abs(clock - clock_before) > JUMP_SECONDS
        if jumped or self._step - self._usual_step > self.calendar.slot_seconds / 2:
            self._interrupt(self._present)
        self._usual_step = max(self._step, STEP_KEPT * self._usual_step)

    def _sample(self, snapshot: Snapshot, every: int) -> None:
        totals, usables, sizes = (snapshot.numbers(name) for name in USED_FIELDS)
        covered = self.calendar.slot_seconds / 2 - self._step
        for place, guest in enumerate(self._present):
            begins = guest.slot.index != self._index
            if begins:
                self._next_slot(guest, snapshot.listed[place], covered)
            guest.slot.sample(_used(totals[place], usables[place], sizes[place]), snapshot.monotonic)
            if begins or (place + self._cycles) % every == 0:
                self._update_figures(guest, place)

    def _update_list(self, listed: Sequence[Guest], now: float) -> None:
        ids = [guest.id for guest in listed]
        if ids == self._ids:
            return
        for guest in self._present:
            guest.present_at = now
        left = {guest.id: guest for guest in self._present}
        self._ids, self._present = ids, []
        for item in listed:
            guest = self.known.get(item.id) or KnownGuest(item.id, item.name, GuestDays(self.calendar))
            self.known[item.id] = guest
            guest.name, guest.present_at = item.name, now
            left.pop(item.id, None)
            self._present.append(guest)
        self._interrupt(left.values())
        self._columns = [[None] * len(ids) for _ in GUEST_FIELDS]
        if len(self.known) > MOST_GUESTS:
            self.forget(now)

    def forget(self, now: float) -> None:
        """Drop guests that have been absent for long, and beyond `MOST_GUESTS` more absent guests."""
        oldest = now - KEPT_WEEKS * WEEK_DAYS * self.calendar.day_seconds
        present = set(self._ids)
        absent = sorted((item for item in self.known.values() if item.id not in present), key=self._worth)
        too_many = len(self.known) - MOST_GUESTS
        for place, guest in enumerate(absent):
            if guest.present_at < oldest or place < too_many:
                del self.known[guest.id]

    def to_keep(self) -> Sequence[KnownGuest]:
        """Return the guests to store: those with a whole learned day first, and within both groups the last present first."""
        known = [guest for guest in self.known.values() if guest.is_known]
        return sorted(known, key=self._worth, reverse=True)[:MOST_GUESTS]

    @staticmethod
    def _worth(guest: KnownGuest) -> tuple[bool, float]:
        return guest.days.slots >= SLOTS or len(guest.past.by_day) > 1, guest.present_at

    def merge(self, learned: HostDays) -> None:
        """Add days that `learned` knows better."""
        for identity, guest in learned.known.items():
            own = self.known.setdefault(identity, guest)
            own.past.merge(guest.past)
            if own.days.slots < guest.days.slots:
                own.days = guest.days
        self.margin, self.usual = max(self.margin, learned.margin), max(self.usual, learned.usual)
        self.host_name = self.host_name or learned.host_name
        self.host_kib = learned.host_kib if self.host_kib is None else self.host_kib
        self.promisable_kib = learned.promisable_kib if self.promisable_kib is None else self.promisable_kib

    def _interrupt(self, guests: Iterable[KnownGuest]) -> None:
        for guest in guests:
            guest.slot = GuestSlot()
            guest.days.interrupt()

    def _next_slot(self, guest: KnownGuest, listed: Guest, covered: float) -> None:
        # `covered`: seconds of the last slot that samples must cover for a result
        last = guest.slot
        restarted = last.incarnation not in ("", listed.incarnation)
        if last.whole and not restarted:
            seen = last.seen(covered)
            guest.days.close(last.index, seen)
            if seen is not None:
                guest.past.take_in(last.index, seen.most, listed.number("balloon_max"))
                guest.past.see_process(listed.number(GuestField.QEMU_OVERHEAD), listed.number("vcpu_count"))
        elif restarted:
            guest.days.interrupt()
        guest.present_at = self._now[0]
        whole = self._index == last.index + 1 and not restarted  # otherwise mom sees only a part of this slot
        expected = guest.days.ahead(self._index, REACH) if guest.days.has_pattern else ()
        guest.slot = GuestSlot(self._index, whole, bool(listed.properties.get(PINNED)), listed.incarnation, expected)

    def _update_figures(self, guest: KnownGuest, place: int) -> None:
        days, slot, columns = guest.days, guest.slot, self._columns
        columns[4][place] = int(days.error) if days.wrong[3] else None
        soon = max((item.most + item.margin for item in slot.expected), default=UNKNOWN)
        slot.weight = _weight(days, slot.used, slot.expected[0]) if slot.expected else 0.0
        columns[3][place] = round(slot.weight, 2) if days.has_pattern else None
        if slot.weight < LEAST_WEIGHT or isnan(soon) or isnan(slot.expected[0].usual):
            columns[0][place] = columns[1][place] = columns[2][place] = None
            slot.middles, slot.rises = (), None
            return
        usual = slot.expected[0].usual
        slot.middles = () if slot.pinned else tuple([item.middle for item in slot.expected])
        columns[0][place], columns[1][place] = int(usual), math.ceil(max(usual, soon))
        columns[2][place] = slot.rises = None if slot.pinned else _rise_in(slot)

    def _seconds_until(self, slot: int) -> float:
        later = slot - self._index
        return round(self.calendar.left(self._now[0]) + (later - 1) * self.calendar.slot_seconds, 1) if later > 0 else 0.0

    def _learn_sum(self, index: int) -> None:
        last = self._sum
        if last is not None and last.slot == index:
            self._sum = last._replace(used=max(last.used, sum(guest.slot.used for guest in last.guests)))
            return
        if last is not None and last.slot == index - 1 and last.used >= 0 and all(guest.slot.index >= 0 for guest in last.guests):
            error = last.used - last.expected
            self.usual += RECOVERY * (abs(error) - self.usual)
            step = QUANTILE_STEP * max(self.usual, RISE_KIB)
            self.margin = max(0.0, self.margin + step * (COVERAGE if error > self.margin else COVERAGE - 1))
        usable = [guest for guest in self._present if guest.slot.middles and not isnan(guest.slot.used)]
        self._sum = _ExpectedSum(index, usable, sum(guest.slot.middles[0] for guest in usable)) if usable else None
        if usable:  # the joint error is at most the sum of present guests' errors
            forecasts = [guest.slot.expected[0] for guest in usable]
            self.margin = min(self.margin, sum(forecast.most + forecast.margin - forecast.middle for forecast in forecasts))

    def columns(self, guests: Sequence[Guest]) -> Columns | None:
        """Return the figures of these guests in the given order, keyed by field; None if no guest is present."""
        if not self._ids:
            return None
        slots = self._columns[2]
        seconds = {slot: self._seconds_until(slot) if isinstance(slot, int) else None for slot in set(slots)}
        columns = [*self._columns[:2], [seconds[slot] for slot in slots], *self._columns[3:]]
        if [guest.id for guest in guests] != self._ids:
            places = {identity: place for place, identity in enumerate(self._ids)}
            order = [places.get(guest.id) for guest in guests]
            columns = [[None if place is None else column[place] for place in order] for column in columns]
        return Columns(dict(zip(GUEST_FIELDS, columns, strict=True)))

    def host_fields(self) -> Mapping[str, Value]:
        """Return the values of the host's fields, keyed by name."""
        return self._host

    def _sum_up(self) -> Mapping[str, Value]:
        counted = [guest.days for guest in self._present if guest.days.has_pattern]
        if not counted:
            return {"guests_forecast": 0}
        wrong, unlearned = (int(sum(errors)) for errors in zip(*((days.error, days.now_error) for days in counted), strict=True))
        errors = {"forecast_error": wrong, "forecast_error_unlearned": unlearned}
        return {"guests_forecast": len(counted), "host_rise_expected": self._rise_expected(), **errors}

    def _rise_expected(self) -> int:
        slots = [guest.slot for guest in self._present if guest.slot.middles]
        usable = [slot for slot in slots if not isnan(slot.used + sum(slot.middles))]
        rises = [slot.rises - self._index for slot in slots if slot.rises is not None]
        first = min(rises, default=REACH)  # before the first rise, its error is unknown
        used = sum([slot.used for slot in usable])
        sums = [sum(column) for column in zip(*[slot.middles for slot in usable], strict=False)]
        margins = (self.margin if place >= first else 0.0 for place in range(REACH))
        more = (whole - used + margin for whole, margin in zip(sums, margins, strict=False))
        return max(0, math.ceil(max(more, default=0.0)))


def _weight(days: GuestDays, used: float, now: SlotExpected) -> float:
    over = used - now.most - now.margin
    usual = FITS * max(LEAST_SHARE * used, days.error)
    return min(days.weight, usual / over) if over > usual else days.weight  # False for unknown use


def _rise_in(slot: GuestSlot) -> int | None:
    # If the guest's present use is unknown, compare with its usual use.
    used = slot.expected[0].usual if isnan(slot.used) else slot.used
    for place, item in enumerate(slot.expected):
        if item.most > used + max(RISE_KIB, RISE_SHARE * used, item.margin):
            return slot.index + place
    return None


GUEST_FIELDS: Final = ("mem_used_expected", "mem_used_expected_soon", "mem_rises_in", "mem_expected_weight", "mem_expected_error")


def _used(total: float | None, usable: float | None, size: float | None) -> float:
    # The use is in KiB, and NaN if unknown or impossible.
    if total is None or usable is None:
        return math.nan
    used = max(0.0, (total if size is None or total < size else size) - usable)
    return used if used <= LARGEST_KIB else math.nan
