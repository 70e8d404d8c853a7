"""What it costs to be fail-safe: of a cycle, the lease, the look for a guardian and a line of the log; and what a guardian uses.

python benchmarks/service/bench_service.py [--runs 300] [--seconds 10]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mom_core.guardian import command, guarded
from mom_core.lease import Lease
from mom_core.logs.writer import Writer


class Nowhere(logging.Handler):
    """A log that nobody keeps."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take it."""


def measured(what: Callable[[], object], runs: int) -> str:
    """Median and slowest of many runs."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        what()
        times.append(time.perf_counter() - began)
        time.sleep(0.001)  # so that what is left to another thread is done
    return f"{statistics.median(times) * 1e6:6.0f} µs, at most {max(times) * 1e6:6.0f} µs"


def cpu_seconds(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def private_kib(pid: int) -> int:
    """What would be free without it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300, help="of what a cycle does")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which a guardian is watched")
    options = parser.parse_args()
    runs, seconds = options.runs, options.seconds
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        (run / "ledger.json").write_text('{"content":[1]}')
        lease = Lease(run)
        lease.begin(60, 30)
        print(f"renew the lease:            {measured(lambda: lease.renew(60, 30), runs)}")
        print(f"see whether it still holds: {measured(lease.check, runs)}")
        with subprocess.Popen(command(run, run)) as guardian:
            until = time.monotonic() + 20
            while not guarded(run) and time.monotonic() < until:
                time.sleep(0.05)
            print(f"look for the guardian:      {measured(lambda: guarded(run), runs)}")
            time.sleep(1)
            before = cpu_seconds(guardian.pid)
            time.sleep(seconds)
            used = (cpu_seconds(guardian.pid) - before) / seconds
            print(f"the guardian:               {used:.2%} of a CPU, {private_kib(guardian.pid) / 1024:.1f} MiB of its own")
            guardian.kill()
    writer = Writer(Nowhere())
    log = logging.Logger("mom.plugin.x")
    log.addHandler(writer)
    numbers = iter(range(10 * runs))
    print(f"log a line:                 {measured(lambda: log.info('cycle %d', next(numbers)), runs)}")
    print(f"log a warning again:        {measured(lambda: log.warning('the same %d', next(numbers)), runs)}")
    writer.close()


if __name__ == "__main__":
    main()
