"""The verb `mom plot`. What it takes is imported when it is called."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="A *.png or *.svg.  [default: mom.png]")
@click.option(
    "--guest",
    "guests",
    multiple=True,
    metavar="PATTERN",
    help="These guests, such as 'db-*'; may be repeated.  [default: the worst]",
)
@click.option("--limit", type=click.IntRange(0, 60), help="How many guests are shown at most.  [default: 48; 24 of more]")
@click.option("--from", "since", metavar="TIME", help="Begin there, such as 2026-11-20T08:00 (UTC, unless it says another zone).")
@click.option("--to", "until", metavar="TIME", help="End there.")
def plot(
    recording: Path,
    output: Path | None,
    guests: tuple[str, ...],
    limit: int | None,
    since: str | None,
    until: str | None,
) -> None:
    """Draw what a recording holds: the host's memory, its pressure, and the guests that fared worst.

    RECORDING is the folder that the plugin `record` has written, or one file of it. `mom simulate --plot` draws a scenario.
    """
    from mom_plugins_record.plot.perform import PlotView, perform
    from mom_plugins_record.recording.times import moment_of

    begins, ends = moment_of(since, "--from", float("-inf")), moment_of(until, "--to", float("inf"))
    perform(recording, output or Path("mom.png"), PlotView(guests, limit, begins, ends))
