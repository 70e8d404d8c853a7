"""The verb `mom advise`. What it takes is imported when it is called."""

from __future__ import annotations

from pathlib import Path

import click

from mom_daemon import json_option


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--class", "sla_class", required=True, metavar="CLASS", help="The service class of the guests that would come.")
@click.option("--memory", metavar="SIZE", help="What each of them is sold, such as 4GiB.  [default: what recorded guests are]")
@click.option("--most", type=click.IntRange(1, 1000), default=64, show_default=True, help="No more than this many are tried.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=10, show_default=True, help="How often each number is simulated.")
@click.option("--hours", type=click.FloatRange(0.01, 24 * 365), help="How much of the recording is simulated.  [default: all]")
@click.option("--time", "time_limit", default="5m", show_default=True, metavar="TIME", help="End after this, with what is known.")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take classes and settings from there.  [default: the recording's]",
)
@json_option
def advise(
    recording: Path,
    sla_class: str,
    memory: str | None,
    most: int,
    seeds: int,
    hours: float | None,
    time_limit: str,
    config: Path | None,
    as_json: bool,
) -> None:
    """Say how many more guests of a class would fit on a recorded host, and at which risk.

    The recorded host and its guests are simulated again, with more and more guests beside them, each number several times. The newcomers
    do what recorded guests did, at another time. Harm is: more promised than the host has, a promise broken, programs killed, the host
    swapping, a recorded guest that loses 1 % of its work more than without newcomers, or a newcomer that loses 5 % of its own. Where the
    plugin offload was recorded, cold memory goes to swap in the simulation, too, and is no harm by itself: half of what was seen to be cold
    of a guest counts as such, and nothing of a newcomer. Nothing real is touched. Exit code 1 when not even one fits.
    """
    from mom_plugins_record.advise.perform import AdviseOptions, perform

    perform(recording, AdviseOptions(sla_class, memory, most, seeds, hours, time_limit, config), as_json=as_json)
