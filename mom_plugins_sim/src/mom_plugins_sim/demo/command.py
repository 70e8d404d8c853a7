"""The verb `mom demo`. What it takes to play is imported when it is played."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--seconds", type=click.FloatRange(0, 3600), default=20.0, show_default=True, help="How long it takes; 0: as fast as it can.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Another number, another host.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FOLDER", help="For recording and picture.  [default: a new folder]")
def demo(seconds: float, seed: int, output: Path | None) -> None:
    """Show mom at work on a simulated host: nothing real is touched.

    A host has more memory sold than it has, and gets under pressure. The same host without mom is shown beside it. It leaves a recording
    and a picture behind.
    """
    from mom_plugins_sim.demo.stage import perform

    perform(seconds, seed, output)
