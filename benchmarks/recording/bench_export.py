"""What it costs to write days of a recording as tables.

    python benchmarks/recording/bench_export.py [--guests 100] [--days 3] [--json]

The guests are those of `bench_recording.py`, whose first 60 cycles are repeated; the recording is made by the recorder itself. CPU seconds
are those of all threads of this process.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench_recording import reports

from mom_core import FieldSpec, Report, Scope, Unit
from mom_plugins_record.export.perform import export
from mom_plugins_record.recording.session import RecordedSession
from mom_plugins_record.recording.writer import RecordingLimits, RecordingWriter, sizes_of

CPU_WANTED_SECONDS = 50.0
"""For 3 days of 100 guests."""

INTERVAL, DAY = 5.0, 86_400.0
BEGINS = 1.7e9


def of_days(made: list[Report], days: float) -> Iterator[Report]:
    """Cycles of that time."""
    for number in range(int(days * DAY / INTERVAL)):
        one, now = made[number % len(made)], number * INTERVAL
        snapshot = replace(one.snapshot, number=number + 1, time=BEGINS + now, monotonic=now)
        yield replace(one, number=number + 1, time=BEGINS + now, snapshot=snapshot)


def record(folder: Path, session: RecordedSession, cycles: Iterator[Report]) -> int:
    """Write them, in files of a day each. How many they were."""
    now, count = 0.0, 0
    writer = RecordingWriter(folder, RecordingLimits(400 * DAY, 1 << 40), lambda: BEGINS + now, lambda: now)
    writer.open()
    writer.session(session)
    for report in cycles:
        now = report.snapshot.monotonic
        writer.cycle(report)
        count += 1
    writer.close()
    return count


def main() -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=100)
    parser.add_argument("--days", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    made = list(reports(options.guests, 60))
    guest = next(iter(made[0].snapshot.guests.values()))
    fields = [FieldSpec(name, Unit.KIB, Scope.GUEST, "", "") for name in guest.fields]
    fields += [FieldSpec(name, Unit.KIB, Scope.HOST, "", "") for name in made[0].snapshot.host.fields]
    session = RecordedSession("0", "h", {"interval": "5s"}, {}, tuple(fields), ())
    with tempfile.TemporaryDirectory(prefix="mom-bench-") as base:
        folder = Path(base) / "recording"
        cycles = record(folder, session, of_days(made, options.days))
        size = sum(sizes_of(folder))
        began, wall = time.process_time(), time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()) as said:
            export(folder, Path(base) / "out", "parquet")
        spent, lasted = time.process_time() - began, time.monotonic() - wall
        tables = sum(path.stat().st_size for path in (Path(base) / "out").iterdir())
    if f"guests.parquet: {cycles * options.guests} rows" not in said.getvalue():
        raise SystemExit(f"not all was exported: {said.getvalue()}")
    result = {
        "guests": options.guests,
        "days": options.days,
        "cycles": cycles,
        "recording_mib": size / (1 << 20),
        "export_cpu_seconds": spent,
        "export_seconds": lasted,
        "tables_mib": tables / (1 << 20),
        "largest_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if options.json:
        print(json.dumps(result))
        return 0
    print(
        f"{options.guests} guests, {options.days:g} days, {cycles} cycles; wanted: {CPU_WANTED_SECONDS:.0f} CPU seconds for 3 days of 100"
    )
    for name, value in result.items():
        print(f"{name:<22}{value:>12.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
