"""Virtual machines of GWA-T-12 (Grid Workloads Archive), one CSV file each."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Final

from mom_core import MomError
from mom_plugins_sim.guest import MIB, kernel_size, low_watermark
from mom_plugins_sim.scenario.schema import GroupPart
from mom_plugins_sim.workload import Trace

COLUMNS: Final = ("Timestamp [ms]", "Memory capacity provisioned [KB]", "Memory usage [KB]")

MILLISECONDS_FROM: Final = 1e11
"""Timestamps of at least this value are read as milliseconds. The archive's are seconds, although the column's name says
milliseconds."""

SMALLEST: Final = 64 * MIB
"""Memory in KiB below which mom skips a machine: the archive contains machines without memory."""

LARGEST: Final = 1e12
"""Larger sizes (KiB) and times (s) are errors."""


@dataclass(frozen=True, slots=True)
class ArchivedMachine:
    """Virtual machine with its memory (KiB) and the demand of its programs."""

    name: str
    memory: float
    demand: Trace


def draw_machines(group: GroupPart, folder: Path, lasts: float, source: random.Random) -> list[ArchivedMachine]:
    """Draw the group's machines at random. A machine must have memory, and rows for the first `lasts` seconds of the group's day.

    Return an empty list if the workload is not `recorded`. Raise `MomError` for an invalid file, or if too few machines qualify.
    """
    part = group.workload.recorded
    if part is None:
        return []
    begins = datetime.combine(part.day, time(), UTC).timestamp()
    files = sorted((folder / part.folder).glob("*.csv"))
    machines: list[ArchivedMachine] = []
    for path in source.sample(files, len(files)):
        machine = _read_machine(path, begins, lasts, part.factor, group.hot)
        if machine is not None:
            machines.append(machine)
        if len(machines) == group.count:
            return machines
    raise MomError(
        f"{folder / part.folder}: {len(machines)} of {len(files)} files *.csv have memory and rows for {lasts:g} s from {part.day} on; "
        f"{group.count} are needed",
        hint="set the folder of a month and a day of that month, or reduce the group's count or the simulated time",
    )


def _read_machine(path: Path, begins: float, lasts: float, factor: float, hot: float) -> ArchivedMachine | None:
    times: list[float] = []
    sizes: list[float] = []
    active: list[float] = []
    for at, size, use in _read_rows(path):
        if at <= begins:
            times, sizes, active = [], [], []
        times.append(at - begins)
        sizes.append(size)
        active.append(use)
        if at >= begins + lasts:
            break
    if not times or times[0] > 0 or times[-1] < lasts or max(sizes) < SMALLEST:
        return None
    memory = max(sizes) // MIB * MIB
    # Programs demand less than the active memory, which includes the kernel's memory and hot files.
    besides = kernel_size(memory) + low_watermark(memory) + hot * memory
    return ArchivedMachine(path.stem, memory, Trace(times, [max(0.0, min(factor * use, memory) - besides) for use in active]))


def _read_rows(path: Path) -> Iterator[tuple[float, float, float]]:
    before = -1.0
    for line, (at, size, use) in read_numbers(path, COLUMNS, ";"):
        at = at / 1000 if at >= MILLISECONDS_FROM else at  # noqa: PLW2901  # the same time in seconds
        if not (before < at < LARGEST and 0 <= size < LARGEST and 0 <= use < LARGEST):
            raise MomError(f"{path}:{line}: time must increase, and memory must be from 0 to {LARGEST:.0e} KB", hint="remove the file")
        before = at
        yield at, size, use


def read_numbers(path: Path, columns: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[float]]]:
    """Yield line number and these columns' numbers for each row of a CSV file. Raise `MomError` for an invalid file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=delimiter)
            header = [name.strip() for name in next(rows, [])]
            for name in columns:
                if name not in header:
                    raise MomError(f"{path}:1: the column {name!r} is missing", hint=f"begin with a line `{delimiter.join(columns)}`")
            places = [header.index(name) for name in columns]
            for row in filter(None, rows):
                try:
                    yield rows.line_num, [float(row[place]) for place in places]
                except (IndexError, ValueError):
                    raise MomError(f"{path}:{rows.line_num}: a number is missing", hint="remove the line or the file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MomError(f"cannot read {path}: {error}") from error
