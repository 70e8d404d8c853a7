"""Random events of a recording: full disks, kills, lost files, clock jumps, restarts. Confirmed cycles are read once and in order."""

import os
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from full_disk import largest_file
from recordings import SESSION, opened, read
from test_report_accounts import KNOWN, cycle

from mom_core import Report, Value
from mom_plugins_record.recording.writer import RecordingFull, RecordingLimits, RecordingWriter, files_of

SEEDS = 6
JUMPS = (-86_400.0, -7200.0, -3600.0, -5.0, 3.0, 3600.0, 86_400.0)
"""Jumps of the clock in seconds."""


class Clocks:
    """Wall clock, which may jump, and monotonic clock."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000_000 * 3600.0, 0.0

    def go_on(self, seconds: float, drawn: random.Random) -> None:
        self.wall += seconds + (drawn.choice(JUMPS) if drawn.random() < 0.03 else 0.0)
        self.monotonic += seconds


def seen(number: int, clocks: Clocks, guests: Mapping[str, Mapping[str, Value]]) -> Report:
    report = cycle(number, guests)
    snapshot = replace(report.snapshot, time=clocks.wall, monotonic=clocks.monotonic)
    return replace(report, time=clocks.wall, snapshot=snapshot)


def killed(writer: RecordingWriter) -> None:
    """Stop a writer like `kill -9`."""
    for descriptor in (writer._file, writer._lock):
        if descriptor is not None:
            os.close(descriptor)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_recorded_cycles_are_read_once_in_order(tmp_path: Path, seed: int) -> None:
    drawn, clocks, folder = random.Random(seed), Clocks(), tmp_path / "recording"  # noqa: S311  # no secrets

    def begun() -> RecordingWriter:
        limits = RecordingLimits(keep=1e11, size=1 << 30)
        return opened(folder, limits, wall=lambda: clocks.wall, monotonic=lambda: clocks.monotonic)

    writer, kept, half = begun(), dict[int, Report](), set[int]()
    for number in range(1, 120):
        clocks.go_on(86_400.0 if drawn.random() < 0.02 else 5.0, drawn)
        many = {f"g{n}": {**KNOWN, "mem_usable": drawn.choice([None, 5, 0])} for n in range(drawn.randint(0, 4))}
        report, what = seen(number, clocks, many), drawn.random()
        if drawn.random() < 0.1:
            writer.session(replace(SESSION, policies={"a": str(drawn.randint(0, 3))}))
        if what < 0.03 and (there := files_of(folder)):
            gone = drawn.choice(there)
            for one in read(gone)[0]:
                kept.pop(one.number)
            gone.unlink()
        size = 0 if writer._file is None else os.fstat(writer._file).st_size
        try:
            with largest_file(size + drawn.randint(0, 300) if 0.1 < what < 0.2 else 1 << 30):
                writer.cycle(report)
            kept[number] = report
        except RecordingFull:
            continue
        if 0.2 < what < 0.25:  # killed in the middle
            written = writer._path.stat().st_size
            os.truncate(writer._path, drawn.randint(size if size < written else 0, written))
            half.add(number)
            killed(writer)
            writer = begun()
    writer.close()
    reports = read(folder)[0]
    numbers = [one.number for one in reports]
    assert numbers == sorted(set(numbers))
    assert kept.keys() - half <= set(numbers) <= kept.keys()
    assert all(one.snapshot == kept[one.number].snapshot for one in reports)
