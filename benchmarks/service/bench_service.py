"""What it costs to be fail-safe: of a cycle, feeding the watchdog and a line of the log.

python benchmarks/service/bench_service.py [--runs 300]
"""

from __future__ import annotations

import argparse
import logging
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mom_daemon.logs.writer import Writer
from mom_daemon.notify import Notifier


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


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300, help="of what a cycle does")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        path = Path(folder) / "notify"
        supervisor.bind(str(path))
        reader = threading.Thread(target=lambda: [supervisor.recv(4096) for _ in range(runs)], daemon=True)
        reader.start()
        notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "20000000"})
        print(f"feed the watchdog:          {measured(lambda: notifier.alive('cycle 1: 3 guests, nothing done'), runs)}")
        print(f"when it was fed just now:   {measured(notifier.progress, runs)}")
        reader.join(10)
    writer = Writer(Nowhere())
    log = logging.Logger("mom.plugin.x")
    log.addHandler(writer)
    numbers = iter(range(10 * runs))
    print(f"log a line:                 {measured(lambda: log.info('cycle %d', next(numbers)), runs)}")
    print(f"log a warning again:        {measured(lambda: log.warning('the same %d', next(numbers)), runs)}")
    writer.close()


if __name__ == "__main__":
    main()
