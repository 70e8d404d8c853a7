"""The verb `mom demo`. What it takes to play is imported when it is played."""

from __future__ import annotations

import click


@click.command()
@click.option("--seconds", type=click.FloatRange(0, 3600), default=20.0, show_default=True, help="How long it takes; 0: as fast as it can.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Another number, another host.")
def demo(seconds: float, seed: int) -> None:
    """Show mom at work on a simulated host: nothing real is touched.

    A host has more memory sold than it has, and gets under pressure. The same host without mom is shown beside it.
    """
    from mom_plugins_sim.demo.stage import perform

    perform(seconds, seed)
