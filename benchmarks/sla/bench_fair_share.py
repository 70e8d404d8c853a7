"""How long fair shares take: the issue of a cycle, for hosts of any size. `python benchmarks/sla/bench_fair_share.py`."""

from __future__ import annotations

import random
import time

from mom_plugins_sla.fair_share import Claim, fair_shares

ROUNDS = 15
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
    for count in (100, 1_000, 10_000):
        took = []
        for number in range(ROUNDS):
            claims = claims_of(count, number)
            guaranteed, most = sum(min(c.guarantee, c.most) for c in claims), sum(c.most for c in claims)
            room = guaranteed + (most - guaranteed) * (number + 1) / (ROUNDS + 1)
            began = time.perf_counter()
            fair_shares(claims, room)
            took.append(time.perf_counter() - began)
        took.sort()
        print(f"{count:>6} guests: best {took[0] * 1e3:.1f} ms, median {took[ROUNDS // 2] * 1e3:.1f} ms, worst {took[-1] * 1e3:.1f} ms")


if __name__ == "__main__":
    main()
