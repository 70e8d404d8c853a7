"""The days of one guest, learned slot by slot, and the forecast that follows: pure, without a clock or a file.

What a guest uses is forecast by three curves: what it used in this slot of the day (an average over days), in this slot of the week (an
average over weeks), and yesterday. This is exponential smoothing with two seasons, and with what is left of the last error added, as in
J. W. Taylor, "Short-term electricity demand forecasting using double seasonal exponential smoothing", Journal of the Operational Research
Society 54 (2003), 799-805: the forecast for k slots later is the season's value then, and the last error times a persistence to the power
of k. A single odd day hardly moves an average, as errors are limited before they are taken in: S. Gelper, R. Fried, C. Croux, "Robust
forecasting with exponential and Holt-Winters smoothing", Journal of Forecasting 29 (2010), 285-300. How much each curve counts follows from
how wrong each was lately: M. Herbster, M. K. Warmuth, "Tracking the best expert", Machine Learning 32 (1998), 151-178. What is added to be
wrong in one slot of twenty only is a tracked quantile: I. Gibbs, E. Candès, "Adaptive conformal inference under distribution shift",
NeurIPS 2021.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import isnan
from typing import Final, NamedTuple, Self

from mom_plugins_record.forecast.slots import HOUR_SLOTS, HOURS, SLOTS, Calendar

UNKNOWN: Final = math.nan

DAY_RATE: Final = 0.2
WEEK_RATE: Final = 0.4
"""Ratios. How much of a new value's difference an average over days, or weeks, takes in: some five days, and two or three weeks, count."""

LIMIT: Final = 3.0
"""Ratio. An error that is larger than so many usual ones is taken in as if it were that large."""

USUAL_RATE: Final = 1 / 96
"""Ratio. The usual size of an error is that of a day or so."""

RECENT: Final = 1 - 1 / 16
"""Ratio, by slot. How wrong each curve was counts for four hours: a day of another kind is found out in its first hours."""

LASTING_SHARE: Final = 0.5
"""Ratio. How much how wrong each curve was over a week counts beside that: at night, all are right, and the morning is to be known."""

LONG: Final = 1 - 1 / (96 * 7)
"""Ratio, by slot. How good the whole forecast is, and how long an error lasts, are of a week or so."""

SHARPNESS: Final = 4.0
"""Power. A curve that was half as wrong counts 16 times as much."""

LEAST_SHARE: Final = 0.005
"""Ratio of what a guest uses. Errors that are smaller do not tell curves apart, nor a day from another."""

PEAK_RISE: Final = 0.5
PEAK_FALL: Final = 0.1
"""Ratios. How fast the most within a slot is taken up, and forgotten."""

COVERAGE: Final = 0.95
QUANTILE_STEP: Final = 0.3
"""Ratios. In so many slots a guest is to use no more than forecast; and by how much of a usual error the margin grows when it did."""

BETTER: Final = 0.9
"""Ratio. A guest has a pattern while its forecast of the next hour is so much better than "as it is now" and than "as on average"."""

EVIDENCE: Final = 32.0
"""Slots of which both are known before that is said: eight hours."""

FITS: Final = 3.0
"""Ratio. A slot that differs by more than so many usual errors is not of a usual day."""

RECOVERY: Final = 1 / 24
"""Ratio, by slot. Six hours that fit bring back two thirds of a forecast's weight."""

LEAST_WEIGHT: Final = 0.5
"""Ratio. A forecast that counts less is not told."""

PRIOR: Final = (1.0, 1.0, 0.25)
"""Ratios. How much each curve counts where nothing tells them apart: yesterday is one day only, which may have been a holiday."""

_CURVES: Final = len(PRIOR)

_MIDDLE: Final = 0x8000
"""In the place of the two bytes that are left out of four: the middle of what they could be, and no more is lost when it is kept again."""


class SlotSeen(NamedTuple):
    """What was seen of a guest in a slot that has ended, in KiB: what it used in the middle and at most; and how fast it grew, in KiB/s."""

    used: float
    most: float
    growth: float = 0.0


class SlotExpected(NamedTuple):
    """What is expected of a guest in a slot, in KiB: what it usually uses then; what is expected today, in the middle and at most within
    the slot; and what is to be added to that for the forecast to be wrong in one slot of twenty only. That is learned of the next slot;
    for later ones it grows with the root of their distance."""

    usual: float
    middle: float
    most: float
    margin: float


@dataclass(frozen=True, slots=True)
class _Said:
    """What was forecast at the end of a slot. Its numbers are in one array: there are four of this for each guest."""

    index: int
    _numbers: array[float]

    @classmethod
    def of(cls, index: int, used: float, next_most: float, hour: float, *of_each: Iterable[float]) -> Self:
        """Of these numbers."""
        return cls(index, array("f", (used, next_most, hour, *chain(*of_each))))

    @property
    def used(self) -> float:
        """What was used in the slot."""
        return self._numbers[0]

    @property
    def next_most(self) -> float:
        """The most that was expected in the slot after it, without the margin; unknown: nothing was."""
        return self._numbers[1]

    @property
    def hour(self) -> float:
        """What was expected an hour later."""
        return self._numbers[2]

    @property
    def lefts(self) -> Sequence[float]:
        """How much more was used than each curve had."""
        return self._numbers[3:6]

    @property
    def mixed(self) -> Sequence[float]:
        """How much each curve counted."""
        return self._numbers[6:9]

    @property
    def hour_of_each(self) -> Sequence[float]:
        """What was expected an hour later by each curve alone."""
        return self._numbers[9:]


def unknown_curve(length: int) -> array[float]:
    """Return a curve of which nothing is known."""
    return array("f", [UNKNOWN]) * length


class HalfCurve:
    """Curve in half of the memory, and as it is kept in a file: of each number the upper two of its four bytes, which are its sign, its
    exponent and seven bits, so that it is known to 0.4 %. An average that follows slowly would lose by that what it moves by.
    """

    __slots__ = ("_halves",)

    def __init__(self, halves: array[int]) -> None:
        self._halves = halves

    @classmethod
    def of(cls, curve: array[float]) -> HalfCurve:
        """Of these numbers of four bytes."""
        words = array("I", curve.tobytes())
        return cls(array("H", [word >> 16 for word in words]))

    @classmethod
    def from_bytes(cls, halves: bytes) -> HalfCurve:
        """As `to_bytes` gave it."""
        result = array("H", halves)
        if sys.byteorder == "big":
            result.byteswap()
        return cls(result)

    def to_bytes(self) -> bytes:
        """Two bytes for each number, the lower one first."""
        kept = self._halves[:]
        if sys.byteorder == "big":
            kept.byteswap()
        return kept.tobytes()

    def whole(self) -> array[float]:
        """Return the numbers, of four bytes each."""
        return array("f", array("I", [half << 16 | _MIDDLE for half in self._halves]).tobytes())

    def __len__(self) -> int:
        return len(self._halves)

    def __getitem__(self, place: int) -> float:
        return array("f", array("I", [self._halves[place] << 16 | _MIDDLE]).tobytes())[0]

    def __setitem__(self, place: int, value: float) -> None:
        self._halves[place] = array("I", array("f", [value]).tobytes())[0] >> 16


@dataclass(slots=True)
class GuestDays:
    """Days of a guest. Sizes in KiB; NaN: unknown. `close` takes in a slot; the rest is forecast from that.

    :param by_day: what it uses in each slot of a day, on average over days
    :param by_week: the same in each slot of a week, over weeks
    :param last: what it used in each slot of a day the last time
    :param excess: how much more than that it used at most within the slot
    :param growth: how fast it grew in each slot of a day at most, in KiB/s
    :param hour_errors: what the forecast of the next hour was wrong by, by the hour of the day
    :param usual: how much a slot differs from `by_day`, usually
    :param losses: how wrong each curve was in the last hours
    :param week_losses: how wrong it was in the last week or so
    :param wrong: sums that are forgotten slowly: how wrong the forecast was, "as it is now", "as on average", and of how many slots
    :param lasting: sums by which is known how long an error lasts
    :param margin: what is added to the most that is expected
    :param weight: how much the forecast counts, 0 to 1
    """

    calendar: Calendar
    by_day: array[float] = field(default_factory=lambda: unknown_curve(SLOTS))
    by_week: HalfCurve = field(default_factory=lambda: HalfCurve(array("H")))
    last: HalfCurve = field(default_factory=lambda: HalfCurve.of(unknown_curve(SLOTS)))
    excess: array[float] = field(default_factory=lambda: unknown_curve(SLOTS))
    growth: array[float] = field(default_factory=lambda: unknown_curve(SLOTS))
    hour_errors: array[float] = field(default_factory=lambda: unknown_curve(HOURS))
    usual: float = UNKNOWN
    losses: array[float] = field(default_factory=lambda: array("d", [0.0] * _CURVES))
    week_losses: array[float] = field(default_factory=lambda: array("d", [0.0] * _CURVES))
    wrong: array[float] = field(default_factory=lambda: array("d", [0.0] * 4))
    lasting: array[float] = field(default_factory=lambda: array("d", [0.0, 0.0]))
    margin: float = 0.0
    average: float = UNKNOWN
    weight: float = 1.0
    slots: int = 0
    has_pattern: bool = False
    _said: list[_Said] = field(default_factory=list)

    def __post_init__(self) -> None:
        """A week is as long as the calendar says."""
        if len(self.by_week) != self.calendar.week_slots:
            self.by_week = HalfCurve.of(unknown_curve(self.calendar.week_slots))

    # --- learn -------------------------------------------------------------------------------------------------------------------

    def close(self, index: int, seen: SlotSeen | None) -> None:
        """A slot has ended.

        :param index: its number, as `Calendar.index` counts
        :param seen: None: it is not known what the guest used in it
        """
        said = self._said
        if said and not 0 < index - said[-1].index <= HOUR_SLOTS:
            said.clear()
        if seen is None:
            return
        if said:
            self._judge(index, seen)
        lefts = [0.0 if isnan(had) else seen.used - had for had in self._each(index)]  # of what each had before it takes this in
        self._take_in(index, seen)
        self._say(index, seen.used, lefts)

    def interrupt(self) -> None:
        """What is seen from now on does not follow what was seen: the guest was started anew, or the clock has jumped."""
        self._said.clear()

    def _judge(self, index: int, seen: SlotSeen) -> None:
        """How good was what had been forecast for this slot."""
        used, floor = seen.used, LEAST_SHARE * seen.used + 1.0
        for said in self._said:
            later = index - said.index
            if later == 1 and not isnan(said.next_most):
                step = QUANTILE_STEP * max(floor, self.error if self.wrong[3] else floor)
                self.margin = max(0.0, self.margin + step * (COVERAGE if seen.most > said.next_most + self.margin else COVERAGE - 1))
            elif later == HOUR_SLOTS and not isnan(said.hour):
                error = abs(used - said.hour)
                self._weigh(error, index, floor)
                flat = abs(used - self.average)
                for place, loss in enumerate((error, abs(used - said.used), flat, 1.0)):
                    self.wrong[place] = LONG * self.wrong[place] + loss
                losses = [abs(used - item) for item in said.hour_of_each]
                for place, loss in enumerate(losses):
                    self.losses[place] = RECENT * self.losses[place] + loss
                    self.week_losses[place] = LONG * self.week_losses[place] + loss
                then, now = _weighed(said.mixed, said.lefts), used - self._season(index, said.mixed)
                self.lasting[0] = LONG * self.lasting[0] + then * now
                self.lasting[1] = LONG * self.lasting[1] + then * then
                hour = index % SLOTS * HOURS // SLOTS
                known = self.hour_errors[hour]
                self.hour_errors[hour] = error if isnan(known) else known + 0.1 * (error - known)
                mine, stays, average, count = self.wrong
                bound = BETTER if not self.has_pattern else 1.0
                self.has_pattern = count >= EVIDENCE and mine < bound * min(stays, average)

    def _weigh(self, error: float, index: int, floor: float) -> None:
        """How much the forecast counts after it was wrong by so much: it falls at once, and comes back slowly."""
        if self.wrong[3] < EVIDENCE:
            return
        of_hour = self.hour_errors[index % SLOTS * HOURS // SLOTS]
        usual = FITS * max(floor, self.error, of_hour if not isnan(of_hour) else 0.0)
        self.weight = self.weight + RECOVERY * (1.0 - self.weight) if error <= usual else min(self.weight, usual / error)

    def _take_in(self, index: int, seen: SlotSeen) -> None:
        """Learn what was seen."""
        used, place, of_week = seen.used, index % SLOTS, self.calendar.of_week(index)
        self.slots += 1
        known = self.by_day[place]
        if isnan(known):
            self.by_day[place] = used
        else:
            error = used - known
            size = abs(error)
            if isnan(self.usual):
                self.usual = size
            bound = LIMIT * max(self.usual, LEAST_SHARE * used)
            self.usual += USUAL_RATE * (min(size, 2 * bound) - self.usual)
            self.by_day[place] = known + DAY_RATE * max(-bound, min(bound, error))
        known = self.by_week[of_week]
        if isnan(known):
            self.by_week[of_week] = used
        else:
            bound = LIMIT * max(self.usual if not isnan(self.usual) else 0.0, LEAST_SHARE * used)
            self.by_week[of_week] = known + WEEK_RATE * max(-bound, min(bound, used - known))
        self.last[place] = used
        _follow_most(self.excess, place, seen.most - used)
        _follow_most(self.growth, place, seen.growth)
        self.average = used if isnan(self.average) else self.average + (used - self.average) / min(self.slots, 3 * SLOTS)

    def _say(self, index: int, used: float, lefts: Sequence[float]) -> None:
        """Note what is forecast now, to judge it later.

        :param lefts: how much more the guest used than each curve had
        """
        mixed, stays = self._mixed(), self._stays(HOUR_SLOTS)
        left = _weighed(mixed, lefts)
        next_most = self._season(index + 1, mixed) + self._stays(1) * left + self.excess_of(index + 1)
        later = self._each(index + HOUR_SLOTS)
        each = [used if isnan(had) else had + stays * one for had, one in zip(later, lefts, strict=True)]
        said = self._said
        said.append(_Said.of(index, used, next_most, _weighed(mixed, later) + stays * left, lefts, mixed, each))
        while said and said[0].index <= index - HOUR_SLOTS:
            del said[0]

    # --- forecast ----------------------------------------------------------------------------------------------------------------

    @property
    def error(self) -> float:
        """What the forecast of the next hour was wrong by lately; NaN: unknown."""
        return self.wrong[0] / self.wrong[3] if self.wrong[3] else UNKNOWN

    @property
    def now_error(self) -> float:
        """What "it stays as it is now" was wrong by meanwhile; NaN: unknown."""
        return self.wrong[1] / self.wrong[3] if self.wrong[3] else UNKNOWN

    @property
    def counts(self) -> bool:
        """True if the forecast is to be told: there is a pattern, and the day is of its kind."""
        return self.has_pattern and self.weight >= LEAST_WEIGHT

    def expected(self, index: int) -> float:
        """What the guest usually uses in this slot, by how its curves count now; NaN: unknown."""
        return self._season(index, self._mixed())

    def ahead(self, index: int, count: int) -> Sequence[SlotExpected]:
        """What is expected in this slot and those after it, `count` in all. NaN: unknown."""
        said = self._said
        if said:
            last, mixed = said[-1].index, said[-1].mixed
            left = _weighed(mixed, said[-1].lefts)
        else:
            last, mixed, left = index - 1, self._mixed(), 0.0
        result = []
        for item in range(index, index + count):
            later = max(1, item - last)
            usual = self._season(item, mixed)
            middle = usual + self._stays(later) * left
            margin = self.margin if later == 1 else self.margin * math.sqrt(min(later, HOUR_SLOTS))
            result.append(SlotExpected(usual, middle, middle + self.excess_of(item), margin))
        return result

    def excess_of(self, index: int) -> float:
        """Return how much more than in the middle it uses at most within this slot."""
        known = self.excess[index % SLOTS]
        return known if not isnan(known) else 0.0

    def _stays(self, later: int) -> float:
        """Return how much of an error is left so many slots later, 0 to 1."""
        both, square = self.lasting
        an_hour = max(0.0, min(1.0, both / square)) if square > 0 else 0.5
        return float(an_hour ** (later / HOUR_SLOTS))

    def _mixed(self) -> Sequence[float]:
        """Return how much each curve counts, 1 in all."""
        lasting = LASTING_SHARE / (1.0 - RECENT) / max(1.0, self.wrong[3])
        losses = [recent + lasting * week for recent, week in zip(self.losses, self.week_losses, strict=True)]
        least = min(losses)
        if not math.isfinite(least):
            return (1.0, 0.0, 0.0)
        floor = LEAST_SHARE / (1.0 - RECENT) * (0.0 if isnan(self.average) else self.average) + 1.0
        shares = [prior * ((least + floor) / (loss + floor)) ** SHARPNESS for prior, loss in zip(PRIOR, losses, strict=True)]
        whole = sum(shares)
        return [share / whole for share in shares]

    def _each(self, index: int) -> Sequence[float]:
        """What each curve has in this slot; of those that have nothing, what the day has."""
        place = index % SLOTS
        day, week, last = self.by_day[place], self.by_week[self.calendar.of_week(index)], self.last[place]
        return day, week if not isnan(week) else day, last if not isnan(last) else day

    def _season(self, index: int, mixed: Sequence[float]) -> float:
        return _weighed(mixed, self._each(index))


def _weighed(shares: Sequence[float], values: Sequence[float]) -> float:
    return shares[0] * values[0] + shares[1] * values[1] + shares[2] * values[2]


def _follow_most(curve: array[float], place: int, value: float) -> None:
    known = curve[place]
    if isnan(known):
        curve[place] = value
    else:
        curve[place] = known + (PEAK_RISE if value > known else PEAK_FALL) * (value - known)
