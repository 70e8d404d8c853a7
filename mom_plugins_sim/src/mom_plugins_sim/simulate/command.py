"""Subcommand `mom simulate`: runs of scenarios under a real engine, progress and results."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from mom_core import Report, Value, lasting, printable
from mom_daemon import as_caller, json_option, print_prose, print_table, progress
from mom_kvm import RunSummary, SimulationSetup
from mom_plugins_sim.scenario.schema import Scenario, built_in, find_scenario, read_scenario

OFFLOADER: Final = "offload"

SETUPS: Final[Mapping[str, SimulationSetup]] = {
    "nothing": SimulationSetup("nothing", acts=False),
    "defaults": SimulationSetup("defaults"),
    "no-offload": SimulationSetup("no-offload", plugins={name: {} for name in SimulationSetup.CONTROLLERS}),
    "credit": SimulationSetup("credit", plugins={**{name: {} for name in SimulationSetup.CONTROLLERS}, "cgroup": {"credit": True}}),
}
"""Setups that `--compare` accepts by name.

- `nothing`: mom only observes.
- `defaults`: the default policies.
- `no-offload`: like `defaults`, but mom moves no cold memory to swap.
- `credit`: like `no-offload`, and mom limits guests' growth while they could exhaust the host.
"""


def run_scenario(
    scenario: Scenario, path: Path, setup: SimulationSetup, seed: int | None, lasts: float, record: Path | None = None
) -> Generator[Report, None, None]:
    """Yield the reports of all cycles. Raise `MomError` for missing plugins or invalid policies.

    :param path: the scenario's file
    :param lasts: simulated seconds
    :param record: folder for a recording
    """
    sim: dict[str, Value] = {"scenario": str(path)}
    if seed is not None:
        sim["seed"] = seed
    setup = replace(setup, plugins=plugins_of(scenario, setup))
    return setup.run(sim, scenario.interval, lasts, record)


def plugins_of(scenario: Scenario, setup: SimulationSetup) -> Mapping[str, Mapping[str, Value]]:
    """Return the setup's plugins with their settings. Add the `sla` plugin if the scenario uses service classes."""
    usual = (*SimulationSetup.CONTROLLERS, *([OFFLOADER] if scenario.host.zram else ()))
    plugins = setup.plugins if setup.plugins is not None else {name: {} for name in usual}
    if not scenario.classes and all(group.sold_as is None for group in scenario.guests.values()):
        return plugins
    return {**plugins, "sla": {"classes": {name: dict(settings) for name, settings in scenario.classes.items()}}}


@click.command()
@click.argument("name", metavar="[SCENARIO]", required=False)
@click.option("--list", "list_them", is_flag=True, help="List the scenarios that come with mom.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FILE|FOLDER",
    help="Policies added to the defaults.",
)
@click.option("--compare", nargs=2, metavar="A B", help="Compare A and B: policy files, 'defaults', 'credit', 'no-offload' or 'nothing'.")
@click.option("--hours", type=click.FloatRange(0.01, 24 * 365), help="Simulated time.  [default: the scenario's]")
@click.option("--seed", type=int, help="Seed of the random guests.  [default: the scenario's]")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Record the run, for `mom replay`, `mom report` and `mom record export`.",
)
@json_option
@SimulationSetup.quiet(logging.CRITICAL)
@as_caller
def simulate(
    name: str | None,
    list_them: bool,
    policies: tuple[Path, ...],
    compare: tuple[str, str] | None,
    hours: float | None,
    seed: int | None,
    record: Path | None,
    as_json: bool,
) -> None:
    """Run a SCENARIO under the default or other policies, as fast as possible. The command touches nothing real.

    SCENARIO is the name of a scenario that comes with mom, or a YAML file. The same seed gives the same results.
    """
    if list_them:
        _list_scenarios()
        return
    if name is None:
        raise click.UsageError("give the name of a scenario; --list shows the scenarios that come with mom")
    if compare and policies:
        raise click.UsageError("--compare and --policy cannot be combined")
    path = find_scenario(name)
    scenario = read_scenario(path)
    lasts = scenario.lasts if hours is None else hours * 3600
    setups = [SimulationSetup("mom", policies)]
    if compare:
        setups = [SETUPS.get(choice) or SimulationSetup(choice, (_policy(choice),)) for choice in compare]
    summaries = []
    for setup in setups:
        recording = record if record is None or len(setups) == 1 else record / setup.name.replace("/", "_")
        summary = RunSummary(setup.name)
        with progress(shown=not as_json) as say:
            for report in run_scenario(scenario, path, setup, seed, lasts, recording):
                summary.add(report)
                say(f"{setup.name}: {100 * (report.time - SimulationSetup.BEGINS) / lasts:.0f} %")
        summaries.append(summary)
    if as_json:
        click.echo(json.dumps([summary.as_json() for summary in summaries], indent=2))
    else:
        _print_results(scenario, summaries, lasts)
        if record is not None:
            click.echo(f"recorded in {record}: `mom report {record} --html report.html` draws plots")
    for summary in summaries:
        for line in summary.failure_lines():
            print_prose(line, 4, err=True)
    if any(summary.failures for summary in summaries):
        raise click.exceptions.Exit(1)


def _policy(name: str) -> Path:
    # Checked before the first run, which may take minutes.
    path = Path(name)
    if not path.exists():
        names = ", ".join(SETUPS)
        raise click.UsageError(f"--compare: unknown policies {printable(name)}; give the path of a file or folder, or one of {names}")
    return path


def _list_scenarios() -> None:
    for name, path in built_in().items():
        scenario = read_scenario(path)
        guests = sum(group.count for group in scenario.guests.values())
        print_prose(f"{name:<16} {scenario.title}: {guests} guests, {lasting(scenario.lasts)}", 17)
        print_prose(f"{'':<16} {scenario.about.strip()}", 17)


def _print_results(scenario: Scenario, summaries: list[RunSummary], lasts: float) -> None:
    click.echo(f"{scenario.title}, {lasting(lasts)}")
    for line in RunSummary.side_by_side(summaries):
        click.echo(line)
    for summary in summaries:
        rows = summary.class_rows()
        if rows and len(summaries) > 1:
            click.echo(f"{summary.name}:")
        if rows:
            print_table(rows[0], rows[1:])
