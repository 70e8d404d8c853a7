"""How long the small verbs take, as a person waits for them: wall time of whole processes, side by side.

python benchmarks/startup/bench_startup.py [--runs 20]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

MOM = Path(sys.executable).parent / "mom"

VERBS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "mom --version": ([str(MOM), "--version"], 150.0),
    "mom plugin list": ([str(MOM), "plugin", "list"], 300.0),
    "mom config schema": ([str(MOM), "config", "schema"], None),
    "mom --help": ([str(MOM), "--help"], None),
}
"""What is run, and how many milliseconds it may take where there is a target."""


def main() -> None:
    """Print one line for each verb."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="of each")
    options = parser.parse_args()
    print(f"{'command':<20} {'median ms':>10} {'least':>8} {'most':>8} {'target':>8}")
    for name, (command, target) in VERBS.items():
        taken = []
        for _ in range(options.runs):
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            taken.append((time.perf_counter() - began) * 1e3)
        wanted = "" if target is None else f"{target:.0f}"
        print(f"{name:<20} {statistics.median(taken):>10.1f} {min(taken):>8.1f} {max(taken):>8.1f} {wanted:>8}")


if __name__ == "__main__":
    main()
