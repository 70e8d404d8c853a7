"""Output of the demonstration: bars in a terminal, lines of text elsewhere, and a summary."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import tempfile
import time
from contextlib import closing, nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mom_daemon import as_caller
from mom_kvm import RunSummary, SimulationSetup
from mom_plugins_sim.demo.story import CYCLES, NEXT, WIDTH, Moment, Summary, clock, frame, play, size

CYCLES_A_LINE = 5
"""Cycles per line if the output cannot draw bars."""


@click.command()
@click.option("--seconds", type=click.FloatRange(0, 3600), default=20.0, show_default=True, help="Duration; 0 runs as fast as possible.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of the random host.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder for the recording.  [default: a new folder]")
@SimulationSetup.quiet(logging.CRITICAL)  # a logged error does not say which of the two hosts it is about
@as_caller
def demo(seconds: float, seed: int, output: Path | None) -> None:
    """Show mom at work on a simulated host. The command touches nothing real.

    The host is overcommitted and comes under pressure. The same host without mom is shown beside it. mom records the demonstration.
    """
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(highlight=False, file=sys.__stdout__ if on_terminal else None)  # mom's stdout escapes terminal control codes
    summary = Summary()
    recording = (Path(tempfile.mkdtemp(prefix="mom-demo-")) if output is None else output) / "recording"
    live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")
    pictures = console.is_terminal and "utf" in console.encoding.lower()
    with closing(play(seed, recording)) as story, live if pictures else nullcontext():
        began = time.monotonic()
        for moment in story:
            summary.add(moment)
            if pictures:
                live.update(frame(moment), refresh=True)
            elif moment.number % CYCLES_A_LINE == 0:
                console.print(_line(moment), soft_wrap=True)
            time.sleep(max(0.0, began + seconds * moment.number / CYCLES - time.monotonic()))
    if not pictures:
        console.print()
    _conclude(console, summary, recording)


def _line(moment: Moment) -> str:
    taken = sum(map(RunSummary.taken_from, moment.report.snapshot.guests.values()))
    (available, cold), (alone, swapped) = (
        [size(report.snapshot.host.number(name) or 0.0) for name in ("mem_really_available", "swap_usage")]
        for report in (moment.report, moment.alone)
    )
    return (
        f"{clock(moment.time):>5}  with mom: available {available:>8}  ballooned {size(taken):>8}  cold {cold:>8}"
        f"  | without mom: available {alone:>8}, swap {swapped:>8}"
    )


def _conclude(console: Console, summary: Summary, recording: Path) -> None:
    rule = "─" if "utf" in console.encoding.lower() else "-"
    console.print(Text(f"{rule * 2} What happened ".ljust(WIDTH, rule), "bold"))
    for line in summary.lines():
        console.print(Text(line), soft_wrap=True)
    console.print()
    console.print(Text(f"{rule * 2} What to type next ".ljust(WIDTH, rule), "bold"))
    mom = "mom" if shutil.which("mom") else shlex.quote(str(Path(sys.argv[0]).resolve()))
    commands = [f"{mom} {words}" for words, _ in NEXT]
    for command, (_, why) in zip(commands, NEXT, strict=True):
        console.print(Text.assemble(("  " + command.ljust(max(map(len, commands)) + 2), "bold cyan"), why), soft_wrap=True)
    console.print(f"\nrecorded in {recording}; for a summary, run\n  {mom} report {recording}", soft_wrap=True)
