"""Measure the cost of limits on credit: guests whose groups are files in memory, on a host that stays short.

    python benchmarks/credit/bench_limits.py [--guests 1000] [--changing 200] [--rounds 30]

Between two cycles, the changing guests grow by 20 MiB, so that the law writes their limits and those of others anew.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mom_kvm import write_group_files
from mom_plugins_host.cgroup.groups import GuestGroup
from mom_plugins_host.credit.control import KernelGroups
from mom_plugins_host.credit.law import Borrower
from mom_plugins_host.credit.limiter import GrowthLimiter

GIB, MIB = 1 << 20, 1 << 10


def measure(guests: int, changing: int, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each cycle, and of the look after it, which a thread makes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        root = Path(folder)
        (root / "proc").mkdir()
        (root / "proc/meminfo").write_text(f"MemTotal: {2 * guests * GIB} kB\nMemAvailable: {20 * GIB} kB\n")
        groups = KernelGroups(root, write_group_files, logging.getLogger())
        limiter = GrowthLimiter(groups)
        held = {f"guest{number}": GIB for number in range(guests)}
        groups.groups = {name: GuestGroup(f"{root}/{name}", 0) for name in held}
        for name in held:
            (root / name).mkdir()
            (root / name / "memory.high").write_text("max")
        cycles, looks = [], []
        for _ in range(rounds):
            for number, name in enumerate(held):
                held[name] += 20 * MIB * (number < changing)
                (root / name / "memory.current").write_text(str(held[name] << 10))
            began = time.perf_counter()
            limiter.update({name: Borrower(kib) for name, kib in held.items()}, 40 * GIB, 4 * GIB)
            ended = time.perf_counter()
            limiter.look()
            cycles.append(ended - began)
            looks.append(time.perf_counter() - ended)
        return cycles[1:], looks[1:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for option, default in (("--guests", 1000), ("--changing", 200), ("--rounds", 30)):
        parser.add_argument(option, type=int, default=default)
    chosen = parser.parse_args()
    for what, spent in zip(("a cycle", "a look"), measure(chosen.guests, chosen.changing, chosen.rounds), strict=True):
        sys.stdout.write(f"{what}: {1000 * statistics.median(spent):.1f} ms, at most {1000 * max(spent):.1f} ms\n")
