"""How long fair shares take: the issue of a cycle, for hosts of any size.

python benchmarks/sla/bench_fair_share.py [--guests 100,1000,10000] [--rounds 15]
"""

from __future__ import annotations

import argparse
import random
import time

from mom_plugins_sla.fair_share import Claim, fair_shares

GIB = 1 << 20


def claims_of(count: int, seed: int) -> list[Claim]:
    """Guests of the four classes that are ready, of 1 to 16 GiB."""
    source = random.Random(seed)  # noqa: S311  # the same guests each time
    found = []
    for _ in range(count):
        most = source.choice((1, 2, 4, 8, 16)) * GIB
        share, cost = source.choice(((1.0, 8.0), (0.75, 4.0), (0.25, 0.5), (0.0, 1.0)))
        found.append(Claim(share * most, source.uniform(0.05, 0.95) * most, most, cost))
    return found


def main() -> None:
    """Print a line for each number of guests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", default="100,1000,10000", help="numbers of guests, with commas")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    for count in map(int, options.guests.split(",")):
        took = []
        for number in range(options.rounds):
            claims = claims_of(count, number)
            guaranteed, most = sum(min(c.guarantee, c.most) for c in claims), sum(c.most for c in claims)
            room = guaranteed + (most - guaranteed) * (number + 1) / (options.rounds + 1)
            began = time.perf_counter()
            fair_shares(claims, room)
            took.append(time.perf_counter() - began)
        took.sort()
        least, median, most = (took[index] * 1e3 for index in (0, options.rounds // 2, -1))
        print(f"{count:>6} guests: best {least:.1f} ms, median {median:.1f} ms, worst {most:.1f} ms")


if __name__ == "__main__":
    main()
