"""Compare memory sold by `mom advise` with memory sold by a fixed ratio, over ten months with weekends and holidays.

    python benchmarks/forecast/ten_months.py [--hosts 10] [--guests 40] [--months 10] [--risk 0.01]

Each host has guests of its own mixture, as many as a fixed ratio of 1.5 allows. Their days are learned for two months. Then the host
follows `mom advise` once a month, by the last eight weeks and at that risk: guests of the same mixture come or leave. A guest is short of
memory in a slot of 15 minutes in which all guests together need more than the host has. mom has taken what nobody needs.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from made_up_days import SLOTS, MadeUpGuest, made_up_guest

from mom_plugins_record.advise.ratio import needed_kib, sold_at_risk
from mom_plugins_record.forecast.past import PastGuest

GIB = 1 << 20
"""KiB."""

FIXED = 1.5
MONTH, LEARNED_DAYS = 30, 56
SLOT_MINUTES = 1440 / SLOTS
FIRST = date(2024, 9, 2).toordinal()
"""A Monday."""

HOLIDAYS = (31, 59, *range(108, 122), 207, 210, 241, 269)
"""Days that are like Sundays, from the first day on: single ones, and two weeks."""

USED_SHARE = 0.3, 0.85
"""Ratio of sold memory that a guest uses at most in its first weeks. Sold is the next power of two GiB above."""

MIXES = {
    "desktops": {"office": 6, "web": 1, "flat": 1, "none": 1, "nightly": 1},
    "servers": {"web": 5, "hourly": 2, "nightly": 2, "flat": 2, "none": 1},
    "nights": {"nightly": 5, "hourly": 3, "web": 1, "none": 1},
    "without a pattern": {"none": 5, "flat": 4, "web": 1},
    "full": {"flat": 9, "none": 1},
}
"""Weights of the kinds of guests. Guests of the last mix use nearly all their memory."""


@dataclass(frozen=True)
class SoldGuest:
    """Guest with the memory that it was sold (KiB), and its days."""

    sold: float
    made: MadeUpGuest

    def most(self, day: int) -> Sequence[float]:
        """Return the peak use in each slot of a day."""
        return self.made.most[SLOTS * day : SLOTS * (day + 1)]

    def learned(self, before: int) -> PastGuest:
        """Return what is known of it on that day."""
        return PastGuest(self.sold, {FIRST + day: self.most(day) for day in range(max(0, before - LEARNED_DAYS), before)})

    def needs(self, day: int) -> list[float]:
        """Return the host memory that it needs in each slot."""
        return [needed_kib(one, self.sold) for one in self.most(day)]


def sold_guests(mix: str, days: int, seed: int) -> Iterator[SoldGuest]:
    """Yield guests of a mixture."""
    drawn, kinds = random.Random(f"{mix} {seed}"), MIXES[mix]  # noqa: S311  # guests, not secrets
    number = 0
    while True:
        kind = drawn.choices([*kinds], [*kinds.values()])[0]
        made = made_up_guest(kind, days, 1000 * seed + number, HOLIDAYS)
        number += 1
        lately = max(made.most[: LEARNED_DAYS * SLOTS])
        wanted = lately / drawn.uniform(*USED_SHARE) / GIB
        sold = 1.05 * lately if mix == "full" else GIB * 2.0 ** math.ceil(math.log2(max(1.0, wanted)))
        yield SoldGuest(sold, made)


@dataclass
class Course:
    """Course of a host: memory sold on each day, and minutes of guests short of memory."""

    sold: list[float] = field(default_factory=list)
    minutes: float = 0.0

    def add(self, guests: Sequence[SoldGuest], day: int, capacity: float) -> None:
        """Add a day with these guests."""
        self.sold.append(sum(one.sold for one in guests))
        needs = [sum(slot) for slot in zip(*(one.needs(day) for one in guests), strict=True)]
        # As few guests as possible go short, each by all of its mean need.
        self.minutes += SLOT_MINUTES * sum(math.ceil((need - capacity) / (need / len(guests))) for need in needs if need > capacity)


@dataclass
class Host:
    """Host under a fixed ratio, and the same host as advised."""

    mix: str
    fixed: Course = field(default_factory=Course)
    advised: Course = field(default_factory=Course)

    def run(self, count: int, months: int, risk: float, seed: int) -> None:
        days = MONTH * months
        coming = sold_guests(self.mix, days, seed)
        guests = [next(coming) for _ in range(count)]
        capacity = sum(one.sold for one in guests) / FIXED
        placed = list(guests)
        for day in range(2 * MONTH, days):
            if day % MONTH == 0:
                advice = sold_at_risk([one.learned(day) for one in placed], capacity, risk=risk)
                if isinstance(advice, str):
                    raise SystemExit(advice)
                while sum(one.sold for one in placed) > advice.sold_kib:
                    placed.pop()
                while sum(one.sold for one in placed) + (more := next(coming)).sold <= advice.sold_kib:
                    placed.append(more)
            self.fixed.add(guests, day, capacity)
            self.advised.add(placed, day, capacity)


def row(name: str, hosts: Sequence[Host]) -> str:
    """Return a line about some hosts together."""
    ratio = sum(sum(one.advised.sold) for one in hosts) / sum(sum(one.fixed.sold) for one in hosts)
    fixed, advised = sum(one.fixed.minutes for one in hosts), sum(one.advised.minutes for one in hosts)
    return f"{name:<20}{FIXED * ratio:>15.2f}{100 * (ratio - 1):>9.0f}%{fixed:>28,.0f}{advised:>9,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--guests", type=int, default=40)
    parser.add_argument("--months", type=int, default=10)
    parser.add_argument("--risk", type=float, default=0.01, help="of a month with a guest short of memory (default: %(default)s)")
    options = parser.parse_args()
    print(f"{'host':<20}{'advised ratio':>15}{'more':>10}{f'guest minutes short: {FIXED}':>28}{'advised':>9}")
    hosts = []
    for number in range(options.hosts):
        hosts.append(Host([*MIXES][number % len(MIXES)]))
        hosts[-1].run(options.guests, options.months, options.risk, 1 + number)
        print(row(hosts[-1].mix, hosts[-1:]), flush=True)
    print(row("all", hosts))


if __name__ == "__main__":
    main()
