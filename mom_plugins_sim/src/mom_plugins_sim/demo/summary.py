"""Summary of the demonstration, from its reports."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from mom_core import printable
from mom_kvm import RunSummary, field_number, taken_from
from mom_plugins_sim.demo.story import INTERVAL, LOAD, Moment


def size(kib: float) -> str:
    """Format KiB in GiB, or in MiB below one GiB."""
    if kib < 0.995 * (1 << 20):
        return f"{kib / 1024:.0f} MiB"
    return f"{kib / (1 << 20):.1f} GiB".replace(".0 GiB", " GiB")


@dataclass(slots=True)
class Summary:
    """Figures of the whole demonstration. Sizes in KiB."""

    managed: RunSummary = field(default_factory=lambda: RunSummary("with mom"))
    alone: RunSummary = field(default_factory=lambda: RunSummary("without"))
    host: float = 0.0
    sold: float = 0.0
    guests: int = 0
    inflated: float = 0.0
    left_alone: dict[str, str] = field(default_factory=dict)

    def add(self, moment: Moment) -> None:
        """Add a moment."""
        self.managed.add(moment.report)
        self.alone.add(moment.alone)
        guests = moment.report.snapshot.guests.values()
        self.host = field_number(moment.report.snapshot.host.fields, "mem_available")
        self.guests = len(guests)
        self.sold = sum(field_number(guest.fields, "balloon_max") for guest in guests)
        self.inflated = sum(map(taken_from, guests))
        for guest in guests:
            if guest.blocked:
                self.left_alone[guest.name] = next(iter(guest.blocked.values()))
            elif moment.time > 4 * INTERVAL and "mem_usable" not in guest.fields and "stats_age" not in guest.fields:
                self.left_alone[guest.name] = "the guest sends no statistics"

    @property
    def returned(self) -> float:
        """Ratio of reclaimed memory that guests got back."""
        return 1.0 - self.inflated / most if (most := self.managed.reclaimed.most) else 1.0

    def lines(self) -> list[str]:
        """Return lines of at most 80 columns."""
        return [
            f"{self.guests} guests with {size(self.sold)} on a host of {size(self.host)}; a program took {size(LOAD.peak)} of it.",
            "",
            *RunSummary.side_by_side((self.managed, self.alone)),
            "",
            f"  given back afterwards: {self.returned:.0%}",
            *(f"  left alone: {printable(name, 20)}, {reason}" for name, reason in sorted(self.left_alone.items())),
        ]


NEXT = (
    ("demo --seed 2", "another host"),
    ("simulate --list", "list scenarios for trying policies"),
    ("replay --help", "try policies on the recording"),
    ("here", "show this host as mom sees it"),
)


def program(started: Path, on_path: str | None) -> str:
    """Return how a shell can call the running mom.

    :param on_path: path of `mom` that a shell finds
    """
    if started.name != "mom" or not started.exists() or (on_path is not None and Path(on_path).samefile(started)):
        return "mom"
    relative = os.path.relpath(started)
    return shlex.quote(str(started.resolve()) if relative.startswith("..") else relative)
