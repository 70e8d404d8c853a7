"""What is missing from the memory that a host has available after much was freed page by page, and when it is back: with and without mom.

python benchmarks/host/bench_cpu_lists.py [--mib 1024] [--seconds 20]      # as root, on Linux 6.7 or newer

A program gives as much memory back as a balloon would take, each page by itself. Then it is looked at once a second how much of it is
missing from MemAvailable, first alone, and then with CPUs being asked for what they keep, as the plugin host does when its host comes
short.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from mom_plugins_host.host.cpu_lists import CpuLists

REAL = Path(__file__).resolve().parents[2] / "tests" / "real"
sys.path.insert(0, str(REAL))

from ballast import available_mib  # noqa: E402  # only found from here on


def missing(mib: int, seconds: int, lists: CpuLists | None) -> tuple[list[int], float]:
    """MiB that are missing at once and after each second, and for how many seconds CPUs were asked."""
    command = [sys.executable, str(REAL / "page_by_page.py"), str(mib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdout.readline()
            before = available_mib()
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()
            found, asked = [before - available_mib()], 0.0
            if lists is not None:
                began = time.perf_counter()
                lists.take_back(64 << 10)
                lists.wait()
                asked = time.perf_counter() - began
            end = time.monotonic()
            for second in range(seconds):
                time.sleep(max(0.0, end + second - time.monotonic()))
                found.append(before - available_mib())
        finally:
            process.kill()
    return found, asked


def main() -> None:
    """Print both, side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    lists = CpuLists(Path("/"), logging.getLogger())
    if lists.why_not():
        sys.exit(lists.why_not())
    lists.take_back(0)
    lists.wait()
    alone, _ = missing(options.mib, options.seconds, None)
    time.sleep(1)
    lists.take_back(0)
    lists.wait()
    time.sleep(1)
    helped, asked = missing(options.mib, options.seconds, lists)
    began = time.perf_counter()
    for _ in range(100):
        lists.kept()
    look = (time.perf_counter() - began) / 100
    print(f"{options.mib} MiB given back page by page; {os.cpu_count()} CPUs, Linux {os.uname().release}. MiB missing:\n")
    print("| s | alone | CPUs asked once |\n| ---: | ---: | ---: |")
    for second, (one, other) in enumerate(zip(alone, helped, strict=True)):
        if second < 4 or (second - 1) % 5 == 0:
            print(f"| {'given' if not second else second - 1} | {one} | {other} |")
    print(f"\nAsking took {asked * 1000:.0f} ms, a look at what CPUs keep {look * 1e6:.0f} us.")


if __name__ == "__main__":
    main()
