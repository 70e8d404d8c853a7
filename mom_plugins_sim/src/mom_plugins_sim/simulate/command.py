"""`mom simulate`: runs, shows how far it is, and tells what came of it."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import click

from mom_core import lasting, printable
from mom_daemon import ExistingPath, FiniteRange, as_caller, json_option, print_prose, progress
from mom_kvm import RunSummary, SimulationSetup, quiet
from mom_plugins_sim.scenario.library import built_in, find_scenario, read_scenario
from mom_plugins_sim.scenario.schema import Scenario
from mom_plugins_sim.simulate.run import SETUPS, run_scenario


@click.command()
@click.argument("name", metavar="[SCENARIO]", required=False)
@click.option("--list", "list_them", is_flag=True, help="List the scenarios that come with mom.")
@click.option("--policy", "policies", multiple=True, type=ExistingPath(), metavar="FILE|FOLDER", help="Policies beside the defaults.")
@click.option("--compare", nargs=2, metavar="A B", help="Run it twice: policies, 'defaults', 'no-offload' or 'nothing'.")
@click.option("--hours", type=FiniteRange(0.01, 24 * 365), help="How long is simulated.  [default: as the scenario says]")
@click.option("--seed", type=int, help="Another number, other guests.  [default: the scenario's]")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Leave a recording behind, for mom replay, report and record export.",
)
@json_option
@quiet(logging.CRITICAL)
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
    """Run a SCENARIO under the default policies or others, as fast as it can: nothing real is touched.

    SCENARIO is the name of one that comes with mom, or a YAML file. The same seed gives the same numbers.
    """
    if list_them:
        _list_scenarios(as_json=as_json)
        return
    if name is None:
        raise click.UsageError("name a scenario; --list shows those that come with mom")
    if compare and policies:
        raise click.UsageError("--compare names policies itself: leave --policy out")
    path = find_scenario(name)
    scenario = read_scenario(path)
    lasts = scenario.lasts if hours is None else hours * 3600
    setups = [SimulationSetup("mom", policies)]
    if compare:
        setups = [SETUPS.get(one) or SimulationSetup(one, (_policy(one),)) for one in compare]
    summaries = []
    for setup in setups:
        into = record if record is None or len(setups) == 1 else record / setup.name.replace("/", "_")
        began = time.monotonic()
        summary = RunSummary(setup.name)
        with progress(shown=not as_json) as say:
            for report in run_scenario(scenario, path, setup, seed, lasts, into):
                summary.add(report)
                say(f"{setup.name}: {100 * (report.time - SimulationSetup.BEGINS) / lasts:.0f} %")
        summaries.append(summary)
        if not as_json:
            click.echo(f"{setup.name}: {lasting(lasts)} simulated in {time.monotonic() - began:.1f} s", err=True)
    if as_json:
        click.echo(json.dumps([summary.as_json() for summary in summaries], indent=2))
    else:
        _tell(scenario, summaries, lasts)
        if record is not None:
            click.echo(f"recorded in {record}: `mom report {record} --html report.html` draws it")
    for summary in summaries:
        for line in summary.failure_lines():
            print_prose(line, 4, err=True)
    if any(summary.failures for summary in summaries):
        raise click.exceptions.Exit(1)


def _policy(name: str) -> Path:
    """The policies of that path. Said before the first run, which may take minutes."""
    path = Path(name)
    if not path.exists():
        there = ", ".join(SETUPS)
        raise click.UsageError(f"--compare: there are no policies {printable(name)}; it takes a file or folder of some, or {there}")
    return path


def _list_scenarios(*, as_json: bool) -> None:
    """Those that come with mom."""
    found = {name: read_scenario(path) for name, path in built_in().items()}
    if as_json:
        told = [{"name": name, "title": one.title, "about": one.about, "seconds": one.lasts} for name, one in found.items()]
        click.echo(json.dumps(told))
        return
    for name, one in found.items():
        guests = sum(group.count for group in one.guests.values())
        print_prose(f"{name:<16} {one.title}: {guests} guests, {lasting(one.lasts)}", 17)
        print_prose(f"{'':<16} {one.about.strip()}", 17)


def _tell(scenario: Scenario, summaries: list[RunSummary], lasts: float) -> None:
    click.echo(f"{scenario.title}, {lasting(lasts)}")
    for line in RunSummary.side_by_side(summaries):
        click.echo(line)
    for summary in summaries:
        rows = summary.class_rows()
        if rows and len(summaries) > 1:
            click.echo(f"{summary.name}:")
        across = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
        for row in rows:
            click.echo("  " + "  ".join(cell.rjust(w) if n else cell.ljust(w) for n, (cell, w) in enumerate(zip(row, across, strict=True))))
