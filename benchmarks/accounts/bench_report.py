"""What the accounts cost that mom keeps of what it brings, and how long `mom report` takes over a month of them.

    python benchmarks/accounts/bench_report.py [--guests 100] [--days 30] [--cycle-guests 1000] [--cycles 100] [--json]

A file of accounts is made with a row for each guest and hour, whose uses wander by the hour; `mom report --by guest --json` reads it in a
process of its own, of which time and memory are measured. Then a mom's accounts take in cycles of many guests.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mom_core import Guest, Host, Report, Snapshot, Value
from mom_plugins_record.report.accounts import Accounts, GuestHour, HostHour
from mom_plugins_record.report.accounts_file import NAME, AccountsFile
from mom_plugins_record.report.keeper import WRITES_EVERY
from mom_plugins_record.report.spread import bin_of

SECONDS_WANTED = 20.0
MIB_WANTED = 200.0
"""Of `mom report` over 30 days of 100 guests."""

CYCLE_WANTED_MS = 2.0
"""CPU time of a cycle of 1,000 guests."""

BEGINS = 490_000
"""Hours since the epoch."""

GIB = float(1 << 20)


def spread(source: random.Random, around: float) -> dict[int, float]:
    """An hour in which a size wanders by a tenth."""
    found: dict[int, float] = {}
    for _ in range(60):
        number = bin_of(around * source.uniform(0.9, 1.1))
        found[number] = found.get(number, 0.0) + 60.0
    return found


def hours(guests: int, days: int) -> Iterator[tuple[HostHour, list[GuestHour]]]:
    """The rows of these days."""
    source = random.Random(1)  # noqa: S311  # the same numbers each time are what is wanted
    uses = [source.uniform(0.3, 3.0) * GIB for _ in range(guests)]
    for hour in range(BEGINS, BEGINS + 24 * days):
        busy = 1 + 0.4 * math.sin(hour * math.pi / 12)
        rows = []
        for n in range(guests):
            used = uses[n] * busy * source.uniform(0.9, 1.1)
            held, sold = min(4 * GIB, used * 1.2), 4 * GIB
            rows.append(
                GuestHour(
                    hour, f"00000000-0000-0000-0000-{n:012}", f"guest-{n:04}", "silver" if n % 3 else "gold", "1", 3600.0,
                    sold_kib_seconds=sold * 3600, had_kib_seconds=sold * 3600, held_kib_seconds=held * 3600,
                    untaken_kib_seconds=(sold - held) * 3600, by_sweeps_kib_seconds=0.5 * (sold - held) * 3600,
                    used_kib_seconds=used * 3600, used_known_seconds=3600.0, waiting_known_seconds=3600.0, promise_kept_seconds=3600.0,
                    sold_kib=sold, touched_kib=held, used_most_kib=used * 1.1, used_spread=spread(source, used),
                    held_spread=spread(source, held), worked_spread=spread(source, used * 0.7),
                )
            )  # fmt: skip
        total = 4.5 * GIB * guests
        available = total - sum(row.held_kib_seconds for row in rows) / 3600
        yield (
            HostHour(
                hour, "bench", hour * 3600.0, (hour + 1) * 3600.0, 3600.0, cycles=720,
                guests_most=guests, guest_seconds=3600.0 * guests,
                total_kib_seconds=total * 3600,
                available_kib_seconds=available * 3600, memory_known_seconds=3600.0, total_kib=total, wanted_kib=0.05 * total,
                used_most_kib=total - available, used_spread=spread(source, total - available),
            ),
            rows,
        )  # fmt: skip


def cycles(guests: int, count: int) -> Iterator[Report]:
    """Cycles of a host with so many guests, five seconds apart."""
    source = random.Random(2)  # noqa: S311  # as above
    for number in range(count):
        seen = {}
        for n in range(guests):
            used = int(GIB * source.uniform(0.8, 1.2))
            fields: dict[str, Value] = {
                "balloon_max": 4 << 20, "balloon_cur": 4 << 20, "rss": used + 300_000, "mem_usable": (4 << 20) - used, "major_fault": 3,
                "mem_promised": 2 << 20, "sla_class": "gold", "host_swap": 0, "host_ksm_profit": 5000, "guest_oom_kills": 0,
                "working_set": used // 2,
            }  # fmt: skip
            seen[f"g{n}"] = Guest(f"g{n}", f"g{n}", fields)
        host: dict[str, Value] = {"mem_available": 8 << 30, "mem_really_available": 1 << 30, "ksm_saved": 5 << 20, "swap_usage": 0}
        snapshot = Snapshot(Host("h", host), seen, 1.7e9 + number * 5.0, number * 5.0, number)
        yield Report(number, snapshot.time, "enforce", snapshot, (), (), (), (), (), 0.01)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--cycle-guests", type=int, default=1000)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mom-bench-report-") as folder:
        path = Path(folder) / NAME
        file = AccountsFile(path, keep=400 * 86_400.0, largest=4 << 30)
        file.open()
        whole, day, last = 0.0, [], None
        for last in hours(asked.guests, asked.days):
            whole += sum(row.sold_kib_seconds for row in last[1]) / GIB / 3600
            day.append(last)  # a day at a time: what this process holds counts as held by the one that it starts
            if len(day) == 24:
                file.write(day)
                day = []
        size = path.stat().st_size
        command = [sys.executable, "-m", "mom_daemon", "report", str(path), "--last", f"{asked.days}d", "--by", "guest", "--json"]
        began = time.perf_counter()
        told = subprocess.run(command, capture_output=True, check=True, timeout=600, text=True)  # our own program
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        content = json.loads(told.stdout)
        wrong = abs(content["whole"]["sold_parts"]["sold_gib_hours"] / whole - 1)
        began = time.process_time()
        file.write([last] if last else [])
        write_ms = 1000 * (time.process_time() - began)
    accounts, taken = Accounts(), []
    for report in cycles(asked.cycle_guests, asked.cycles):
        began = time.process_time()
        accounts.add(report, 1.0)
        taken.append(time.process_time() - began)
    found = {
        "report_seconds": round(seconds, 2),
        "report_peak_mib": round(peak, 1),
        "file_mib": round(size / (1 << 20), 1),
        "bytes_each_guest_and_hour": round(size / max(1, asked.guests * 24 * asked.days)),
        "sold_is_wrong_by": round(wrong, 6),
        "cycle_ms": round(1000 * sum(taken) / len(taken), 2),
        "write_ms": round(write_ms, 2),
        "write_every_seconds": WRITES_EVERY,
    }
    if asked.json:
        print(json.dumps(found))
    else:
        print(f"mom report over {asked.days} days of {asked.guests} guests: {seconds:.1f} s (wanted: {SECONDS_WANTED:g}), {peak:.0f} MiB"
              f" (wanted: {MIB_WANTED:g})")  # fmt: skip
        print(f"the file: {found['file_mib']} MiB, {found['bytes_each_guest_and_hour']} bytes for each guest and hour")
        print(f"a cycle of {asked.cycle_guests} guests: {found['cycle_ms']} ms of CPU (wanted: {CYCLE_WANTED_MS:g} with 1,000)")
        print(f"an hour of {asked.guests} guests is written in {found['write_ms']} ms, every {WRITES_EVERY:g} s")
    return 0 if wrong < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
