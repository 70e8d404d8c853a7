"""Scene of a scenario, with guests drawn at random from a seed, or from virtual machines of GWA-T-12 (Grid Workloads Archive)."""

from __future__ import annotations

import csv
import fnmatch
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mom_core import MomError, Size
from mom_plugins_sim.guest import MIB, GuestTraits, kernel_size, low_watermark
from mom_plugins_sim.scenario.schema import GroupPart, Scenario
from mom_plugins_sim.scene import FOREVER, FaultKind, GuestScene, Scene, SceneFault, draw_identity
from mom_plugins_sim.workload import Demand, HostLoad, Trace, Workload

KIB: Final = 1024

GRAIN: Final = 1024
"""Each guest's memory is a multiple of this size in KiB."""

LONGEST_TRACE: Final = 1_000_000
"""Maximum number of lines in a trace: one per second for 11 days."""

OF_GUESTS: Final = frozenset({FaultKind.GUEST_HANGS, FaultKind.STATISTICS_STOP, FaultKind.BALLOON_STUCK})


def scene_of(scenario: Scenario, folder: Path, seed: int | None = None) -> Scene:
    """Draw the scene of a scenario. Raise `MomError` for an invalid trace, or a fault that affects no guest.

    :param folder: folder that relative trace paths start from
    :param seed: replaces the scenario's own seed
    """
    number = scenario.seed if seed is None else seed
    source = random.Random(number)  # noqa: S311  # the simulation must be repeatable
    guests = [guest for name, group in scenario.guests.items() for guest in _group(name, group, folder, source, scenario.lasts)]
    loads = [HostLoad(load.memory / KIB, load.at, load.lasts, load.growth / KIB) for load in scenario.host.load]
    faults = []
    for part in scenario.faults:
        of_guests = part.what in OF_GUESTS
        struck = frozenset(guest.identity for guest in guests if of_guests and fnmatch.fnmatchcase(guest.name, part.guests))
        if of_guests and not struck:
            raise MomError(
                f"the fault {part.what} affects guests {part.guests}, but no guest has such a name", hint="guests are named GROUP-001"
            )
        faults.append(SceneFault(part.what, part.at, part.lasts, struck))
    host = scenario.host
    return Scene(host.memory / KIB, guests, number, host.swap / KIB, loads, faults, host_zram=host.zram / KIB)


def _group(name: str, group: GroupPart, folder: Path, source: random.Random, lasts: float) -> Iterator[GuestScene]:
    trace = _read_trace(folder / group.workload.trace.file) if group.workload.trace is not None else None
    machines = draw_machines(group, folder, lasts, source)
    shares = (group.statistics.silent, group.balloon.none, group.balloon.refuses)
    silent, rigid, refusing = (frozenset(source.sample(range(group.count), round(share * group.count))) for share in shares)
    balloon = group.balloon
    traits = GuestTraits(balloon.rate / KIB, group.process / KIB, balloon.reporting, balloon.autodeflate, group.small_pieces)
    for index in range(group.count):
        machine = machines[index] if machines else None
        memory = machine.memory if machine else _memory(group.memory, source)
        first, last = group.arrives if isinstance(group.arrives, tuple) else (group.arrives, group.arrives)
        arrives = source.uniform(first, last)
        identity = draw_identity(source)
        if machine:
            demand: Demand | Trace = machine.demand
        elif trace is not None and group.workload.trace is not None:
            demand = group.workload.trace.draw(trace, memory, source)
        else:
            demand = group.workload.draw(memory, source, lasts)
        cold, touched = min(group.cold * memory, demand.base), group.touches / KIB
        files, hot = group.files * memory, min(group.hot, group.files) * memory
        workload = Workload(demand, files, group.reads / KIB, hot, group.duplicate, cold, touch_rate=touched, warms=group.warms)
        cached = source.uniform(0.6, 1.0) if group.cached is None else group.cached
        period = group.statistics.period
        yield GuestScene(
            identity,
            f"{name}-{machine.name if machine else f'{index + 1:03d}'}",
            memory,
            workload,
            group.swap * memory,
            cached,
            period,
            source.uniform(0.0, period),
            silent=index in silent,
            rigid=index in rigid,
            refusing=index in refusing,
            arrives=arrives,
            departs=FOREVER if group.stays is None else arrives + group.stays,
            traits=traits,
            sold_as=group.sold_as,
            properties=group.properties,
        )


def _memory(part: Size | tuple[Size, Size] | None, source: random.Random) -> float:
    least, most = part if isinstance(part, tuple) else (part or 0, part or 0)
    return max(GRAIN, round(source.uniform(least, most) / KIB / GRAIN) * GRAIN)


def _read_trace(path: Path) -> Trace:
    times: list[float] = []
    values: list[float] = []
    for line, (time, value) in read_numbers(path, ("seconds", "kib"), ","):
        if not (value >= 0 and (not times or time > times[-1]) and abs(time) < LARGEST and value < LARGEST):
            raise MomError(f"{path}:{line}: seconds must be greater than on the line before, and kib must not be negative")
        times.append(time)
        values.append(value)
        if len(times) > LONGEST_TRACE:
            raise MomError(f"{path}: the trace has more than {LONGEST_TRACE} lines")
    if not times:
        raise MomError(f"{path}: the trace is empty")
    return Trace(times, values)


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
    begins = datetime.combine(part.day, datetime.min.time(), UTC).timestamp()
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
