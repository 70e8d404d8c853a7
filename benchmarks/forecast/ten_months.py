"""How much more can be sold by what guests' days have taught than by a fixed ratio, over ten months with weekends and holidays.

    python benchmarks/forecast/ten_months.py [--hosts 10] [--guests 40] [--months 10] [--risk 0.01]

Each host has guests of its own mixture, as many as a fixed ratio of 1.5 lets in. For two months their days are learned. From then on the
host follows, once a month, what `mom advise` says of the last eight weeks at that risk: more guests of the same mixture come where it says
that more fits, and where it says that less does, guests leave. A guest is short of memory in a slot of 15 minutes in which all guests
together need more than the host has: what each uses at most, what it keeps above that, and QEMU. What mom can take of what nobody needs,
it has taken. The same days under the fixed ratio stand beside it.

How wrong the forecasts of the next hour were in the months after the first two, of the guests that the fixed ratio lets in, is measured as
`bench_forecast.py` does it: in MiB on average, and as a ratio to the better of "as it is now" and "as yesterday".
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_forecast import Errors, errors_of  # only found from here on
from made_up_days import SLOTS, MadeUpGuest, made_up_guest

from mom_kvm import PastGuest
from mom_plugins_record.advise.ratio import SoldAtRisk, needed_kib, sold_at_risk

GIB = 1 << 20
"""KiB."""

FIXED = 1.5
MONTH, LEARNED_DAYS = 30, 56
SLOT_MINUTES = 1440 / SLOTS
FIRST = date(2024, 9, 2).toordinal()
"""A Monday."""

HOLIDAYS = (31, 59, *range(108, 122), 207, 210, 241, 269)
"""Days from the first on that are as Sundays: single ones, and two weeks."""

USED_SHARE = 0.3, 0.85
"""What a guest uses at most in its first weeks, of what it is to be sold: drawn between these, and sold is the next power of two GiB above.
Most guests use far less than they have bought (the simulator's usual mixture, from what clouds report, uses 9 to 48 %)."""

MIXES = {
    "desktops": {"office": 6, "web": 1, "flat": 1, "none": 1, "nightly": 1},
    "servers": {"web": 5, "hourly": 2, "nightly": 2, "flat": 2, "none": 1},
    "nights": {"nightly": 5, "hourly": 3, "web": 1, "none": 1},
    "without a pattern": {"none": 5, "flat": 4, "web": 1},
    "full": {"flat": 9, "none": 1},
}
"""How many guests of each kind there are of so many together. Those of the last mix use nearly all that they are sold."""


@dataclass(frozen=True)
class SoldGuest:
    """A guest: what it was sold (KiB), and its days."""

    sold: float
    made: MadeUpGuest

    def most(self, day: int) -> Sequence[float]:
        """What it uses at most in each slot of a day; of more than it was sold, it needs no more."""
        return self.made.most[SLOTS * day : SLOTS * (day + 1)]

    def learned(self, before: int) -> PastGuest:
        """What is known of it on that day."""
        return PastGuest("", "", self.sold, {FIRST + day: self.most(day) for day in range(max(0, before - LEARNED_DAYS), before)})

    def needs(self, day: int) -> list[float]:
        """What it needs of the host in each slot."""
        return [needed_kib(one, self.sold) for one in self.most(day)]


def sold_guests(mix: str, days: int, seed: int) -> Iterator[SoldGuest]:
    """Guests of a mixture, one after the other."""
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
    """What came of a host: what was sold on average of its days, minutes of guests short of memory, and days with any."""

    sold: list[float] = field(default_factory=list)
    minutes: float = 0.0
    days: int = 0

    def add(self, guests: Sequence[SoldGuest], day: int, capacity: float) -> None:
        """A day of these guests."""
        self.sold.append(sum(one.sold for one in guests))
        together = [sum(slot) for slot in zip(*(one.needs(day) for one in guests), strict=True)]
        short = [need for need in together if need > capacity]
        self.days += bool(short)
        # As few guests go short as it takes, each by all of what it needs on average.
        self.minutes += SLOT_MINUTES * sum(math.ceil((need - capacity) / (need / len(guests))) for need in short)


@dataclass
class Host:
    """A host under a fixed ratio, and the same by what is advised."""

    mix: str
    fixed: Course = field(default_factory=Course)
    advised: Course = field(default_factory=Course)
    first: SoldAtRisk | str = ""
    errors: Errors = field(default_factory=Errors)

    def run(self, count: int, months: int, risk: float, seed: int) -> None:
        """All of its months."""
        days = MONTH * months
        coming = sold_guests(self.mix, days, seed)
        guests = [next(coming) for _ in range(count)]
        capacity = sum(one.sold for one in guests) / FIXED
        there = list(guests)
        for one in guests:
            self.errors.add(errors_of(one.made, 2 * MONTH))
        for day in range(2 * MONTH, days):
            if day % MONTH == 0:
                found = sold_at_risk([one.learned(day) for one in there], capacity, risk=risk)
                if isinstance(found, str):
                    raise SystemExit(found)
                self.first = self.first or found
                while sum(one.sold for one in there) > found.sold:
                    there.pop()
                while sum(one.sold for one in there) + (more := next(coming)).sold <= found.sold:
                    there.append(more)
            self.fixed.add(guests, day, capacity)
            self.advised.add(there, day, capacity)

    @property
    def more(self) -> float:
        """Ratio of what was sold, as advised to fixed."""
        return sum(self.advised.sold) / sum(self.fixed.sold)


def how_wrong(errors: Errors) -> tuple[float, float]:
    """How wrong forecasts were in MiB on average, and as a ratio to what is known without them."""
    return errors.sums[0] / max(1, errors.slots) / 1024, errors.ratio


def main() -> None:
    """Print a line for each host."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--guests", type=int, default=40)
    parser.add_argument("--months", type=int, default=10)
    parser.add_argument("--risk", type=float, default=0.01, help="of a month, that some guest is short of memory (default: %(default)s)")
    options = parser.parse_args()
    print(
        f"{'host':<20}{'ratio, first':>13}{'on average':>11}{'more sold':>10}{'guest minutes short: fixed':>28}{'advised':>9}{'days':>10}"
        f"{'forecast wrong by, MiB':>24}{'ratio':>7}"
    )
    hosts = []
    for number in range(options.hosts):
        host = Host([*MIXES][number % len(MIXES)])
        host.run(options.guests, options.months, options.risk, 1 + number)
        hosts.append(host)
        wrong, ratio = how_wrong(host.errors)
        first = FIXED * host.first.sold / host.fixed.sold[0] if isinstance(host.first, SoldAtRisk) else math.nan
        print(
            f"{host.mix:<20}{first:>13.2f}{FIXED * host.more:>11.2f}{100 * (host.more - 1):>9.0f}%{host.fixed.minutes:>28,.0f}"
            f"{host.advised.minutes:>9,.0f}{host.fixed.days:>5}/{host.advised.days:<4}{wrong:>24.0f}{ratio:>7.2f}",
            flush=True,
        )
    errors = Errors()
    for host in hosts:
        errors.add(host.errors)
    wrong, ratio = how_wrong(errors)
    more = sum(sum(one.advised.sold) for one in hosts) / sum(sum(one.fixed.sold) for one in hosts)
    short = [sum(course.minutes for course in courses) for courses in ([one.fixed for one in hosts], [one.advised for one in hosts])]
    watched = len(hosts) * (options.months - 2)
    unlucky = sum(one.advised.days > 0 for one in hosts)
    fixed, advised = short
    print(f"\ntogether: {100 * (more - 1):.0f} % more sold than by a fixed {FIXED}")
    print(f'forecasts of the next hour: wrong by {wrong:.0f} MiB on average, {ratio:.2f} of the better of "as now" and "as yesterday"')
    print(f"guest minutes short: fixed {fixed:,.0f}, advised {advised:,.0f}")
    print(f"advised at a risk of {options.risk:.1%} a month: {unlucky} of {len(hosts)} hosts were short on any day of {watched} months")


if __name__ == "__main__":
    main()
