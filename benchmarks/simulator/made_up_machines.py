"""Write a made-up day of virtual machines in the format of GWA-T-12, to measure `mom simulate` without the archive.

Most machines have no daily pattern: 18 of 357 in the archive's "Rnd" have one.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

SAMPLE: Final = 300
DAY: Final = 86_400
DATE: Final = "2013-08-13"
SIZES: Final = (1, 2, 2, 4, 4, 8, 8, 16)
"""GiB."""
DAILY: Final = 18 / 357
HEADER: Final = (
    "Timestamp [ms]", "CPU cores", "CPU capacity provisioned [MHZ]", "CPU usage [MHZ]", "CPU usage [%]",
    "Memory capacity provisioned [KB]", "Memory usage [KB]", "Disk read throughput [KB/s]", "Disk write throughput [KB/s]",
    "Network received throughput [KB/s]", "Network transmitted throughput [KB/s]",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--machines", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write_machines(options.folder, options.machines, options.seed)


def write_machines(folder: Path, machines: int, seed: int) -> None:
    """Write a file for each machine."""
    source = random.Random(seed)  # noqa: S311  # the same day each time
    folder.mkdir(parents=True, exist_ok=True)
    begins = int(datetime.fromisoformat(f"{DATE}T00:00:00+00:00").astimezone(UTC).timestamp())
    for number in range(1, machines + 1):
        rows = [";\t".join(HEADER), *made_up_rows(source, begins)]
        (folder / f"{number}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def made_up_rows(source: random.Random, begins: int) -> list[str]:
    """Return the rows of one machine, from an hour before that time to an hour after the day."""
    size, cores = source.choice(SIZES) * 1024 * 1024, source.choice((1, 2, 4))
    share = daily(source) if source.random() < DAILY else restless(source)
    rows = []
    for time in range(-3600, DAY + 3600 + 1, SAMPLE):
        active = size * min(1.0, max(0.0, share(time) * source.gauss(1.0, 0.1)))
        cpu = 2600 * cores * source.uniform(0.01, 0.2)
        cells = (begins + time, cores, 2600.0 * cores, cpu, cpu / cores / 26, float(size), active, 0.0, 12.5, 1.0, 2.0)
        rows.append(";\t".join(map(str, cells)))
    return rows


def daily(source: random.Random) -> Callable[[int], float]:
    """Return the share of its memory that a machine with office hours uses, by the time of day."""
    low, high, peak = source.uniform(0.05, 0.15), source.uniform(0.2, 0.4), source.uniform(11, 16) * 3600
    return lambda time: low + (high - low) * max(0.0, math.cos(2 * math.pi * (time - peak) / DAY))


def restless(source: random.Random) -> Callable[[int], float]:
    """Return the same of a machine with a low base, and jobs at random times."""
    base, job = source.uniform(0.01, 0.06), source.uniform(0.05, 0.3)
    starts = [source.uniform(0, DAY) for _ in range(source.choice((0, 0, 1, 1, 2, 5)))]
    lasts = source.uniform(300, 3600)
    return lambda time: base + job * any(start <= time < start + lasts for start in starts)


if __name__ == "__main__":
    main()
