"""Recorded days of virtual machines for guests of the squeeze: GWA-T-12, or made-up machines in its format."""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

from mom_plugins_sim.scenario.scene import ArchivedMachine, draw_machines
from mom_plugins_sim.scenario.schema import Demands, GroupPart, RecordedDemand
from mom_plugins_sim.workload import DAY, MIB, Trace

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simulator"))

from made_up_machines import DATE, SAMPLE, write_machines  # only found from here on

STEP_SECONDS: Final = 2.5
"""How long a guest holds a sample: a day of 288 samples lasts 12 minutes."""

SHORT_DAY: Final = DAY / SAMPLE * STEP_SECONDS

MOST: Final = 0.76
"""Largest demand, as a ratio of the guest's memory. The guest's kernel needs the rest."""

MADE_UP_MACHINES: Final = 60
SEED: Final = 2
"""These twelve have about the mean and the joint peak of real ones: 1.1 and 2.4 GiB."""


def read_days(folder: Path | None, day: date, memory: Sequence[int]) -> list[list[int]]:
    """Return the demand (MiB) of guests of these sizes (MiB), for each sample of a day.

    A machine's memory becomes the guest's. Raise `MomError` for invalid or too few files.

    :param folder: CSV of GWA-T-12, or files *.txt with lines `SECONDS MIB` of guests of 1 GiB, a day in 720 s; `None`: made-up machines
    :param day: the date in the CSV
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="mom-days-") as made_up:
            write_machines(Path(made_up), MADE_UP_MACHINES, SEED)
            return read_days(Path(made_up), date.fromisoformat(DATE), memory)
    machines = [_read_short_day(path) for path in sorted(folder.glob("*.txt"))] or _draw(folder, day, len(memory))
    return [
        [round(min(machine.demand.at(sample) / machine.memory, MOST) * mib) for sample in range(0, int(DAY), SAMPLE)]
        for machine, mib in zip(machines, memory, strict=False)
    ]


def _draw(folder: Path, day: date, count: int) -> list[ArchivedMachine]:
    workload = Demands(recorded=RecordedDemand(folder=".", day=day))
    group = GroupPart(count=count, workload=workload, hot=0.0)
    return draw_machines(group, folder, DAY, random.Random(SEED))  # noqa: S311  # the same machines each time


def _read_short_day(path: Path) -> ArchivedMachine:
    rows = [tuple(map(float, line.split())) for line in path.read_text("utf-8").splitlines()]
    times, sizes = zip(*rows, strict=True)
    return ArchivedMachine(path.stem, 1024 * MIB, Trace([time * DAY / SHORT_DAY for time in times], [size * MIB for size in sizes]))
