"""The verb `mom simulate`. What it takes is imported when it is called."""

from __future__ import annotations

from pathlib import Path

import click

from mom_daemon import json_option


@click.command()
@click.argument("scenario", required=False)
@click.option("--list", "list_them", is_flag=True, help="List the scenarios that come with mom.")
@click.option(
    "--policy", "policies", multiple=True, type=click.Path(path_type=Path), metavar="FILE|FOLDER", help="Policies beside the defaults."
)
@click.option("--compare", nargs=2, metavar="A B", help="Run it twice: policies, 'defaults', 'no-offload' or 'nothing'.")
@click.option("--hours", type=click.FloatRange(0.01, 24 * 365), help="How long is simulated.  [default: as the scenario says]")
@click.option("--seed", type=int, help="Another number, other guests.  [default: the scenario's]")
@click.option("--record", type=click.Path(path_type=Path), metavar="FOLDER", help="Leave a recording behind, for mom replay and mom plot.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Leave a picture behind: *.png, *.svg or *.html.")
@json_option
def simulate(
    scenario: str | None,
    list_them: bool,
    policies: tuple[Path, ...],
    compare: tuple[str, str] | None,
    hours: float | None,
    seed: int | None,
    record: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Run a SCENARIO under the default policies or others, as fast as it can: nothing real is touched.

    SCENARIO is the name of one that comes with mom, or a YAML file. The same seed gives the same numbers.
    """
    from mom_plugins_sim.simulate.perform import Wishes, list_scenarios, perform

    if list_them:
        list_scenarios(as_json=as_json)
        return
    if scenario is None:
        raise click.UsageError("name a scenario; --list shows those that come with mom")
    if compare and policies:
        raise click.UsageError("--compare names policies itself: leave --policy out")
    perform(scenario, Wishes(policies, compare, hours, seed, record, plot, as_json))
