"""Story of the demonstration, its summary, and pictures for a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Group
from rich.text import Text

from mom_core import Guest, Report, Value, printable
from mom_kvm import RunSummary, SimulationSetup, pages_kib
from mom_plugins_sim.scene import SimSettings
from mom_plugins_sim.simulate.command import OFFLOADER
from mom_plugins_sim.workload import HostLoad

INTERVAL = 5.0
"""Simulated seconds per cycle: mom's default."""

CYCLES = 110
"""Nine simulated minutes: memory pressure begins, mom relieves it, and the pressure ends."""

SETTINGS = SimSettings.model_validate(
    {
        "guests": 24,
        "host_memory": "32GiB",
        "host_zram": "8GiB",
        "sold": 1.25,
        "silent": 0.04,
        "rigid": 0.04,
        "cold": 0.3,
        "statistics_period": "2s",
        "load": "8704MiB",
        "load_after": "60s",
        "load_for": "270s",
    }
)
"""Host overcommitted by a quarter, with compressed swap and a program that takes 8.5 GiB. 30 % of the guests' base memory is cold."""

PLUGINS: Final[Mapping[str, Mapping[str, Value]]] = {name: {} for name in (*SimulationSetup.CONTROLLERS, OFFLOADER)}

LOAD: Final = HostLoad(SETTINGS.load / 1024, SETTINGS.load_after, SETTINGS.load_for, SETTINGS.load_growth / 1024)


@dataclass(frozen=True, slots=True)
class Moment:
    """Reports of one cycle: `report` of a mom that acts, `alone` of a mom that only observes an identical host."""

    number: int
    report: Report
    alone: Report

    @property
    def time(self) -> float:
        """Simulated seconds since the beginning."""
        return self.number * INTERVAL


def play(seed: int, record: Path | None = None) -> Generator[Moment, None, None]:
    """Yield the moments of the story."""
    sim = SETTINGS.model_copy(update={"seed": seed}).model_dump(mode="json", exclude_unset=True)
    runs = [
        SimulationSetup("demo", acts=acts, plugins=PLUGINS).run(sim, INTERVAL, CYCLES * INTERVAL, record if acts else None)
        for acts in (True, False)
    ]
    in_turn = ((report for report in run if not report.woken_by) for run in runs)
    for number, (report, alone) in enumerate(zip(*in_turn, strict=True), 1):
        yield Moment(number, report, alone)


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
        self.host = moment.report.snapshot.host.number("mem_available") or 0.0
        self.guests = len(guests)
        self.sold = sum(guest.number("balloon_max") or 0.0 for guest in guests)
        self.inflated = sum(map(RunSummary.taken_from, guests))
        for guest in guests:
            if guest.blocked:
                self.left_alone[guest.name] = next(iter(guest.blocked.values()))
            elif moment.time > 4 * INTERVAL and "mem_usable" not in guest.fields and "stats_age" not in guest.fields:
                self.left_alone[guest.name] = "the guest sends no statistics"

    @property
    def returned(self) -> float:
        """Fraction of the reclaimed memory that guests got back."""
        return 1.0 - self.inflated / most if (most := self.managed.reclaimed.most) else 1.0

    def lines(self) -> list[str]:
        """Return lines of at most 80 columns."""
        return [
            f"{self.guests} guests with {size(self.sold)} on a host of {size(self.host)}; a program took {size(LOAD.peak)} of it.",
            "",
            *RunSummary.side_by_side((self.managed, self.alone)),
            "",
            f"  reclaimed memory returned to the guests afterwards: {self.returned:.0%}",
            *(f"  left alone: {printable(name, 20)}, {reason}" for name, reason in sorted(self.left_alone.items())),
        ]


NEXT = (
    ("demo --seed 2", "show another random host"),
    ("simulate --list", "list scenarios for trying policies"),
    ("replay --help", "try policies on the recording"),
    ("doctor", "examine this host"),
)


WIDTH = 80
LABEL = 13
GUESTS_SHOWN = 9
GUEST_BAR = 30

GIB = 1 << 20
SHOWN_KIB = 1024
"""The picture omits smaller amounts of swapped memory."""

USED, PROGRAM, SWAPPED, SPARE, TAKEN = "█▓▚▒·"
"""Glyphs of bars: memory in use, memory of the program, compressed swap, spare memory, ballooned memory."""


def clock(seconds: float) -> str:
    """Format seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def phase(time: float, inflated: float) -> tuple[str, str]:
    """Return a sentence about the present phase, and the sentence's style. `inflated` is in KiB."""
    if time <= LOAD.begins:
        return "All is calm: memory that guests do not use is free on the host.", "green"
    if LOAD.at(time):
        return f"A program takes {size(LOAD.peak)}: mom reclaims spare and cold memory of guests.", "bold yellow"
    if inflated > GIB / 4:
        return "The program has ended: guests get their memory back.", "cyan"
    return "All is calm again.", "green"


def stacked(parts: Sequence[tuple[float, str, str]], total: float, width: int) -> Text:
    """Draw a bar of `width` columns for `total`. Each part is an amount, a glyph and a style."""
    bar = Text()
    drawn = 0
    amounts = 0.0
    for amount, glyph, style in parts:
        amounts += max(0.0, amount)
        end = min(width, round(amounts / total * width)) if total else 0
        bar.append(glyph * (end - drawn), style)
        drawn = max(drawn, end)
    bar.append(" " * (width - drawn))
    return bar


def frame(moment: Moment) -> Group:
    """Draw the picture."""
    guests = list(moment.report.snapshot.guests.values())
    sentence, style = phase(moment.time, sum(map(RunSummary.taken_from, guests)))
    program = LOAD.at(moment.time)
    shown = sorted(guests, key=lambda guest: (-(guest.number("balloon_max") or 0.0), guest.name))[:GUESTS_SHOWN]
    return Group(
        _title(moment, guests),
        Text(f" {sentence}", style),
        Text(),
        *_host("with mom", moment.report, program),
        *_host("without mom", moment.alone, program),
        Text(),
        _legend(),
        *map(_guest, shown),
        Text(f" and {len(guests) - len(shown)} more guests" if len(guests) > len(shown) else "", "dim"),
    )


def _title(moment: Moment, guests: Sequence[Guest]) -> Text:
    sold = sum(guest.number("balloon_max") or 0.0 for guest in guests)
    total = moment.report.snapshot.host.number("mem_available") or 0.0
    title = Text(f" mom demo  a host of {size(total)}, {len(guests)} guests with {size(sold)}", "bold")
    progress = f"{clock(moment.time)} of {clock(INTERVAL * CYCLES)} "
    title.append(progress.rjust(WIDTH - len(title)), "dim")
    return title


def _host(label: str, report: Report, program: float) -> tuple[Text, Text]:
    host = report.snapshot.host
    total, available, swapped = (host.number(name) or 0.0 for name in ("mem_available", "mem_really_available", "swap_usage"))
    compressed = swapped / (host.number("offload_ratio") or math.inf)
    guests = max(0.0, total - available - program - compressed)
    parts = ((guests, USED, "blue"), (program, PROGRAM, "yellow"), (compressed, SWAPPED, "red"))
    details = f"{size(available)} available"
    inflated = sum(map(RunSummary.taken_from, report.snapshot.guests.values()))
    if report.mode == "enforce":
        details += f"; ballooned {size(inflated)}, merged {size(pages_kib(host.fields, 'ksm_pages_sharing'))}, cold {size(swapped)}"
    elif swapped > SHOWN_KIB:
        details += f"; {size(swapped)} in swap, programs wait {host.number('psi_memory_some_avg10') or 0.0:.0f} % of the time"
    bar = stacked(parts, total, WIDTH - LABEL - 3)
    line = Text.assemble((f" {label:<{LABEL - 1}}", "bold"), ("▕", "dim"), bar, ("▏", "dim"))
    return line, Text(f" {'':<{LABEL}}{details}", "dim")


def _legend() -> Text:
    legend = Text(" " * (LABEL + 1))
    for glyph, style, text in ((USED, "blue", "needed"), (SPARE, "green", "spare"), (TAKEN, "dim", "ballooned by mom")):
        legend.append(glyph * 2, style)
        legend.append(f" {text}   ", "dim")
    return legend


def _guest(guest: Guest) -> Text:
    maximum, current, need = (guest.number(name) or 0.0 for name in ("balloon_max", "balloon_cur", "sim_need"))
    parts = ((min(need, current), USED, "blue"), (current - need, SPARE, "green"), (maximum - current, TAKEN, "dim"))
    bar = stacked(parts, maximum, GUEST_BAR)
    line = Text(f" {printable(guest.name, LABEL - 1):<{LABEL}}")
    line.append_text(bar)
    line.append(f" {current / GIB:5.2f} of {maximum / GIB:.2f} GiB")
    return line
