"""Memory use of one guest by time of day and week, learned slot by slot, and its forecast. Pure: no clock, no file.

Three curves forecast the use in a slot: the average at this time of day, the average at this time of the week, and yesterday's use. This is
exponential smoothing with two seasons and an error correction (Taylor, "Short-term electricity demand forecasting using double seasonal
exponential smoothing", 2003). The forecast for k slots later is the weighted value of the curves in that slot, plus the last
error times persistence ** k.

Errors are limited before an average includes them, so that a single odd day has little effect (Gelper, Fried, Croux, "Robust forecasting
with exponential and Holt-Winters smoothing", 2010). Each curve's weight follows from its recent errors
(Herbster, Warmuth, "Tracking the best expert", 1998). The margin is a tracked quantile, which the use exceeds in one
slot of twenty (Gibbs, Candès, "Adaptive conformal inference under distribution shift", 2021).
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Final, NamedTuple

SLOTS: Final = 96
"""Slots of a day, 15 minutes each."""

HOURS: Final = 24

HOUR_SLOTS: Final = SLOTS // HOURS

WEEK_DAYS: Final = 7
WEEK_SLOTS: Final = SLOTS * WEEK_DAYS

_MONDAY: Final = 3
"""Days from Monday to 1970-01-01, a Thursday."""


def local_offset(moment: float) -> int:
    """Return local time's offset from UTC in seconds.

    :param moment: seconds since the epoch
    """
    return time.localtime(moment).tm_gmtoff


@dataclass(frozen=True, slots=True)
class Calendar:
    """Division of time into slots, days and weeks.

    Slots follow the local clock: a day of 23 hours lacks four slots. Tests have shorter days.
    """

    day_seconds: float = 86_400.0
    offset: Callable[[float], float] = field(default=local_offset, compare=False)

    @property
    def slot_seconds(self) -> float:
        """Length of a slot in seconds."""
        return self.day_seconds / SLOTS

    def index(self, moment: float) -> int:
        """Return the number of the slot at that time (seconds since the epoch)."""
        return int((moment + self.offset(moment)) // self.slot_seconds)

    def left(self, moment: float) -> float:
        """Return the seconds until the next slot."""
        return self.slot_seconds - (moment + self.offset(moment)) % self.slot_seconds

    def of_week(self, index: int) -> int:
        """Return the place of this slot in the week, which begins on Monday."""
        return (index + _MONDAY * SLOTS) % WEEK_SLOTS


UNKNOWN: Final = math.nan

DAY_RATE: Final = 0.2
WEEK_RATE: Final = 0.4
"""Weights of a new value in the averages by day and by week. The averages cover about five days, and two or three weeks."""

LIMIT: Final = 3.0
"""Multiple of the usual error at which errors are capped."""

USUAL_RATE: Final = 1 / 96
"""Weight of a new error in the usual error, an average over about a day."""

RECENT: Final = 1 - 1 / 16
"""Factor per slot by which a curve's errors decay. They count for about four hours, to detect an unusual day early."""

LASTING_SHARE: Final = 0.5
"""Weight of a week's errors, compared with recent errors. At night all curves are right, but they may differ in the morning."""

LONG: Final = 1 - 1 / (96 * 7)
"""Factor per slot by which older values decay. The forecast's quality and the persistence of errors are averages over about a week."""

SHARPNESS: Final = 4.0
"""Exponent of the curves' weights. A curve with half the error counts 16 times as much."""

LEAST_SHARE: Final = 0.005
"""Errors below this fraction of a guest's use do not distinguish curves or days."""

PEAK_RISE: Final = 0.5
PEAK_FALL: Final = 0.1
"""A slot's learned maximum moves by this part of its difference to a new value: `PEAK_RISE` up, `PEAK_FALL` down."""

COVERAGE: Final = 0.95
QUANTILE_STEP: Final = 0.3
"""`COVERAGE`: fraction of slots in which the use should not exceed the maximum plus the margin. `QUANTILE_STEP`: step of the margin, as a
multiple of recent errors."""

BETTER: Final = 0.9
"""A guest has a pattern if the forecast's errors are below this fraction of the errors of both simple forecasts: no change, and the
average."""

EVIDENCE: Final = 32.0
"""Number of slots with known errors before a guest can have a pattern: eight hours."""

FITS: Final = 3.0
"""Multiple of the usual error above which a slot's error shows an unusual day."""

RECOVERY: Final = 1 / 24
"""Fraction of a forecast's lost weight that returns per slot."""

LEAST_WEIGHT: Final = 0.5
"""mom ignores a forecast with a smaller weight."""

PRIOR: Final = (1.0, 1.0, 0.25)
"""Weights of the curves before any errors are known. Yesterday is a single day, perhaps a holiday."""

_CURVES: Final = len(PRIOR)


class SlotSeen(NamedTuple):
    """Use of a guest in a past slot: average and maximum in KiB."""

    used: float
    most: float


class SlotExpected(NamedTuple):
    """Expected use of a guest in a slot, in KiB.

    :param usual: usual use in this slot
    :param middle: average use expected today
    :param most: maximum use expected today
    :param margin: the use exceeds `most + margin` in one slot of twenty. The margin grows with the square root of the distance in time
    """

    usual: float
    middle: float
    most: float
    margin: float


class _SlotForecast(NamedTuple):
    """Forecast at the end of a slot, to be judged an hour later.

    :param next_most: expected maximum in the next slot
    :param residuals: difference between the use and each curve
    :param hour_of_each: expected use an hour later, from each curve alone
    """

    slot: int
    used: float
    next_most: float
    residuals: Sequence[float]
    weights: Sequence[float]
    hour_of_each: Sequence[float]


def unknown_curve(length: int) -> array[float]:
    """Return a curve of unknown values."""
    return array("f", [UNKNOWN]) * length


@dataclass(slots=True)
class GuestDays:
    """Learned daily memory use of a guest. Sizes in KiB; NaN if unknown.

    :param by_day: use in each slot of a day, averaged over days
    :param by_week: use in each slot of a week, averaged over weeks
    :param last: use in each slot of the last day
    :param excess: maximum in each slot of a day, less the average
    :param hour_errors: error of forecasts of the next hour, by hour of the day
    :param usual: usual difference between a slot's use and `by_day`
    :param losses: errors of each curve in the last hours
    :param week_losses: errors of each curve in the last week
    :param wrong: four decaying sums: errors of the forecast and of two simple ones (no change, average), and the number of slots
    :param lasting: decaying sums for the persistence of errors
    :param margin: addition to the expected maximum
    :param weight: weight of the forecast, 0 to 1
    """

    calendar: Calendar
    by_day: array[float] = field(default_factory=lambda: unknown_curve(SLOTS))
    by_week: array[float] = field(default_factory=lambda: unknown_curve(WEEK_SLOTS))
    last: array[float] = field(default_factory=lambda: unknown_curve(SLOTS))
    excess: array[float] = field(default_factory=lambda: unknown_curve(SLOTS))
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
    _forecasts: list[_SlotForecast] = field(default_factory=list)

    def close(self, index: int, seen: SlotSeen | None) -> None:
        """Learn from a slot that has ended.

        :param index: slot number from `Calendar.index`
        :param seen: use in the slot; None if unknown
        """
        forecasts = self._forecasts
        if forecasts and not 0 < index - forecasts[-1].slot <= HOUR_SLOTS:
            forecasts.clear()
        if seen is None:
            return
        if forecasts:
            self._judge(index, seen)
        residuals = [0.0 if isnan(had) else seen.used - had for had in self._curve_values(index)]  # before the curves include the slot
        self._take_in(index, seen)
        self._note_forecast(index, seen.used, residuals)

    def interrupt(self) -> None:
        """Note that slots are missing before the next slot."""
        self._forecasts.clear()

    def _judge(self, index: int, seen: SlotSeen) -> None:
        used, floor = seen.used, LEAST_SHARE * seen.used + 1.0
        for forecast in self._forecasts:
            later = index - forecast.slot
            if later == 1 and not isnan(forecast.next_most):
                step = QUANTILE_STEP * max(floor, self.error if self.wrong[3] else floor)
                self.margin = max(0.0, self.margin + step * (COVERAGE if seen.most > forecast.next_most + self.margin else COVERAGE - 1))
            elif later == HOUR_SLOTS and not isnan(expected := _weighed(forecast.weights, forecast.hour_of_each)):
                error = abs(used - expected)
                self._weigh(error, index, floor)
                flat = abs(used - self.average)
                for place, loss in enumerate((error, abs(used - forecast.used), flat, 1.0)):
                    self.wrong[place] = LONG * self.wrong[place] + loss
                losses = [abs(used - item) for item in forecast.hour_of_each]
                for place, loss in enumerate(losses):
                    self.losses[place] = RECENT * self.losses[place] + loss
                    self.week_losses[place] = LONG * self.week_losses[place] + loss
                then, now = _weighed(forecast.weights, forecast.residuals), used - self._season(index, forecast.weights)
                self.lasting[0] = LONG * self.lasting[0] + then * now
                self.lasting[1] = LONG * self.lasting[1] + then * then
                hour = index % SLOTS * HOURS // SLOTS
                recent = self.hour_errors[hour]
                self.hour_errors[hour] = error if isnan(recent) else recent + 0.1 * (error - recent)
                mine, unchanged, average, count = self.wrong
                bound = BETTER if not self.has_pattern else 1.0
                self.has_pattern = count >= EVIDENCE and mine < bound * min(unchanged, average)

    def _weigh(self, error: float, index: int, floor: float) -> None:
        # The weight falls immediately after a large error, and rises slowly after small errors.
        if self.wrong[3] < EVIDENCE:
            return
        of_hour = self.hour_errors[index % SLOTS * HOURS // SLOTS]
        usual = FITS * max(floor, self.error, of_hour if not isnan(of_hour) else 0.0)
        self.weight = self.weight + RECOVERY * (1.0 - self.weight) if error <= usual else min(self.weight, usual / error)

    def _take_in(self, index: int, seen: SlotSeen) -> None:
        used, place, of_week = seen.used, index % SLOTS, self.calendar.of_week(index)
        self.slots += 1
        before = self.by_day[place]
        if isnan(before):
            self.by_day[place] = used
        else:
            error = used - before
            size = abs(error)
            if isnan(self.usual):
                self.usual = size
            bound = LIMIT * max(self.usual, LEAST_SHARE * used)
            self.usual += USUAL_RATE * (min(size, 2 * bound) - self.usual)
            self.by_day[place] = before + DAY_RATE * max(-bound, min(bound, error))
        before = self.by_week[of_week]
        if isnan(before):
            self.by_week[of_week] = used
        else:
            bound = LIMIT * max(self.usual if not isnan(self.usual) else 0.0, LEAST_SHARE * used)
            self.by_week[of_week] = before + WEEK_RATE * max(-bound, min(bound, used - before))
        self.last[place] = used
        excess, before = seen.most - used, self.excess[place]
        self.excess[place] = excess if isnan(before) else before + (PEAK_RISE if excess > before else PEAK_FALL) * (excess - before)
        self.average = used if isnan(self.average) else self.average + (used - self.average) / min(self.slots, 3 * SLOTS)

    def _note_forecast(self, index: int, used: float, residuals: Sequence[float]) -> None:
        weights, persistence = self._weights(), self._persistence(HOUR_SLOTS)
        residual = _weighed(weights, residuals)
        next_most = self._season(index + 1, weights) + self._persistence(1) * residual + self.excess_of(index + 1)
        each = [had + persistence * more for had, more in zip(self._curve_values(index + HOUR_SLOTS), residuals, strict=True)]
        forecasts = self._forecasts
        forecasts.append(_SlotForecast(index, used, next_most, residuals, weights, each))
        while forecasts and forecasts[0].slot <= index - HOUR_SLOTS:
            del forecasts[0]

    @property
    def error(self) -> float:
        """Recent error of forecasts of the next hour; NaN if unknown."""
        return self.wrong[0] / self.wrong[3] if self.wrong[3] else UNKNOWN

    @property
    def now_error(self) -> float:
        """Recent error of expecting no change; NaN if unknown."""
        return self.wrong[1] / self.wrong[3] if self.wrong[3] else UNKNOWN

    def expected(self, index: int) -> float:
        """Return the usual use in this slot; NaN if unknown."""
        return self._season(index, self._weights())

    def ahead(self, index: int, count: int) -> Sequence[SlotExpected]:
        """Return the expected use in `count` slots from this slot on; NaN if unknown."""
        forecasts = self._forecasts
        if forecasts:
            last, weights = forecasts[-1].slot, forecasts[-1].weights
            residual = _weighed(weights, forecasts[-1].residuals)
        else:
            last, weights, residual = index - 1, self._weights(), 0.0
        result = []
        for item in range(index, index + count):
            later = max(1, item - last)
            usual = self._season(item, weights)
            middle = usual + self._persistence(later) * residual
            margin = self.margin if later == 1 else self.margin * math.sqrt(min(later, HOUR_SLOTS))
            result.append(SlotExpected(usual, middle, middle + self.excess_of(item), margin))
        return result

    def excess_of(self, index: int) -> float:
        """Return the usual maximum in this slot, minus the average; 0 if unknown."""
        excess = self.excess[index % SLOTS]
        return excess if not isnan(excess) else 0.0

    def _persistence(self, later: int) -> float:
        product, square = self.lasting
        an_hour = max(0.0, min(1.0, product / square)) if square > 0 else 0.5
        return float(an_hour ** (later / HOUR_SLOTS))

    def _weights(self) -> Sequence[float]:
        lasting = LASTING_SHARE / (1.0 - RECENT) / max(1.0, self.wrong[3])
        losses = [recent + lasting * week for recent, week in zip(self.losses, self.week_losses, strict=True)]
        least = min(losses)
        if not math.isfinite(least):
            return (1.0, 0.0, 0.0)
        floor = LEAST_SHARE / (1.0 - RECENT) * (0.0 if isnan(self.average) else self.average) + 1.0
        shares = [prior * ((least + floor) / (loss + floor)) ** SHARPNESS for prior, loss in zip(PRIOR, losses, strict=True)]
        whole = sum(shares)
        return [share / whole for share in shares]

    def _curve_values(self, index: int) -> Sequence[float]:
        place = index % SLOTS
        day, week, last = self.by_day[place], self.by_week[self.calendar.of_week(index)], self.last[place]
        return day, week if not isnan(week) else day, last if not isnan(last) else day

    def _season(self, index: int, weights: Sequence[float]) -> float:
        return _weighed(weights, self._curve_values(index))


def _weighed(shares: Sequence[float], values: Sequence[float]) -> float:
    return shares[0] * values[0] + shares[1] * values[1] + shares[2] * values[2]
