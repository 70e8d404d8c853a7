"""Subcommand `mom advise`: how much memory to sell, or how many more guests fit."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click

from mom_core import UnitError, count_of, format_duration, load_config, parse_duration, parse_size, printable
from mom_daemon import (
    ExistingPath,
    FiniteRange,
    KeptPath,
    TableColumn,
    json_option,
    print_prose,
    print_table,
    print_text,
    progress,
    write_output,
)
from mom_kvm import quiet
from mom_plugins_record.advise import sold
from mom_plugins_record.advise.ratio import RISK
from mom_plugins_record.advise.sold import PlacementAdvice, placement_of, script
from mom_plugins_record.advise.trial import CapacitySearch, TimeIsOver, Trials, stage_of
from mom_plugins_record.forecast.files import past_in
from mom_plugins_record.forecast.plugin import configured_days
from mom_plugins_record.replay.stage import RecordedStage
from mom_plugins_record.report.sizes import risk_of


@click.command()
@click.argument("recording", type=KeptPath(), required=False)
@click.option(
    "--risk", metavar="SHARE", help=f"Without RECORDING: accepted risk per month that some guest lacks memory.  [default: {100 * RISK:g}%]"
)
@click.option(
    "--days",
    type=KeptPath(),
    multiple=True,
    metavar="FILE",
    help="Without RECORDING: learned days (days.json) of this or another host; may be repeated.",
)
@click.option("--class", "sla_class", metavar="CLASS", help="With RECORDING: service class of the new guests.")
@click.option("--memory", metavar="SIZE", help="Memory of each new guest, such as 4GiB.  [default: the recorded guests' sizes]")
@click.option("--most", type=click.IntRange(1, 1000), default=64, show_default=True, help="Largest number of new guests to try.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=10, show_default=True, help="Simulations for each number of guests.")
@click.option("--hours", type=FiniteRange(0.01, 24 * 365), help="Hours of the recording to simulate.  [default: all]")
@click.option(
    "--time", "time_limit", default="5m", show_default=True, metavar="TIME", help="Time limit; mom then prints the results so far."
)
@click.option("--placement", metavar="FILE", help="Write a script for OpenStack's placement service to FILE; - prints it.")
@click.option(
    "-c",
    "--config",
    "config_path",
    type=ExistingPath(),
    metavar="FILE",
    help="Configuration with classes and settings.  [default: the recording's]",
)
@json_option
@quiet(logging.CRITICAL)
def advise(
    recording: Path | None,
    risk: str | None,
    days: tuple[Path, ...],
    sla_class: str | None,
    memory: str | None,
    most: int,
    seeds: int,
    hours: float | None,
    time_limit: str,
    placement: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Advise how much memory to sell on this host at a stated risk, or how many more guests fit on a recorded host.

    \b
    mom advise --risk 1%                       from the daily memory use of guests, learned by the forecast plugin
    mom advise --days a/days.json --days b/days.json    for several hosts, whose files were copied here
    mom advise RECORDING --class gold          by simulation

    Without RECORDING: for each learned day, mom calculates how full the host would be with its guests and copies of them. The risk is that
    some guest lacks memory within a month. The answer includes settings of OpenStack, KubeVirt, CloudStack and Proxmox VE. mom needs two
    weeks of learned days, and ignores swap and merged pages.

    With RECORDING: mom simulates the recorded host with more and more guests, each number several times. The new guests repeat recorded
    guests at another time. These count as harm: more memory promised than the host has, a broken promise, an OOM kill, a swapping host, a
    recorded guest that loses 1 % more of its work than it would without new guests, and a new guest that loses 5 %. If the recording has
    the offload plugin, half of a guest's recorded cold memory goes to swap, which does not count as harm.
    Exit code 1 if not even one guest fits.
    """
    if recording is None:
        if sla_class is not None or memory is not None or hours is not None:
            raise click.UsageError("--class, --memory and --hours need a RECORDING")
        _by_days(_share(risk), days, config_path, placement, as_json=as_json)
        return
    if risk is not None or days:
        raise click.UsageError("--risk and --days use learned days: leave RECORDING out")
    if sla_class is None:
        raise click.UsageError("--class is missing; give the service class of the new guests")
    try:
        limit = parse_duration(time_limit)
        memory_kib = None if memory is None else parse_size(memory) / 1024
    except UnitError as error:
        raise click.UsageError(str(error)) from None
    request = _Request(sla_class, memory, memory_kib, most, seeds, time.monotonic() + limit)
    stage = stage_of(recording, config_path, None if hours is None else hours * 3600)
    _by_simulation(stage, request, placement, as_json=as_json)


class _Request(NamedTuple):
    sla_class: str
    memory: str | None
    memory_kib: float | None
    most: int
    seeds: int
    ends: float
    """Time limit in monotonic seconds."""


def _search(stage: RecordedStage, request: _Request, *, shown: bool) -> tuple[Trials, CapacitySearch, int | None]:
    with progress(shown=shown) as show:

        def beat(count: int, seed: int, share: float) -> None:
            if time.monotonic() > request.ends and search.tried:
                raise TimeIsOver
            show(f"{count} more, run {seed} of {request.seeds}: {100 * share:.0f} %")

        trials = Trials(stage, request.sla_class, request.memory_kib, beat)
        search = CapacitySearch(trials.harm, request.seeds, request.most)
        return trials, search, search.largest()


def _by_simulation(stage: RecordedStage, request: _Request, placement: str | None, *, as_json: bool) -> None:
    trials, search, fits = _search(stage, request, shown=not as_json)
    summary, table = _result_lines(search, fits, request.sla_class, stage.seconds)
    advice = None if placement is None else _placement(trials, stage.host, fits)
    if as_json:
        content = {
            "class": request.sla_class,
            "fits": fits,
            "risk": None if fits is None else risk_of(search.counts[fits].runs),
            "complete": search.complete,
            "tried": [{"more": item.count, "runs": item.runs, "harm": item.harm} for item in search.tried],
        }
        more = {} if placement is None else {"placement": advice._asdict() if isinstance(advice, PlacementAdvice) else None}
        click.echo(json.dumps({**content, **more}, indent=2))
    else:
        for line in (*summary, *table):
            print_prose(line, 4)
        if remark := trials.before.remark:
            print_prose(f"there is harm even without new guests: {remark}; only additional harm counts", 4)
    if isinstance(advice, PlacementAdvice):
        sizes = f"of {request.memory} each" if request.memory is not None else "of the recorded guests' sizes"
        text = script(advice, [*summary, f"The simulation added new guests {sizes}."])
        _hand_out(text, str(placement), printed=not as_json)
    elif advice is not None and not as_json:
        print_prose(advice, 4)
    if not fits:
        sys.exit(1)


def _share(risk: str | None) -> float:
    if risk is None:
        return RISK
    try:
        share = float(risk.removesuffix("%")) / (100 if risk.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise click.UsageError(f"--risk: {printable(risk, 40)} is not a risk between 0 and 100 %, such as 1%")
    return share


def _by_days(risk: float, files: Sequence[Path], config: Path | None, placement: str | None, *, as_json: bool) -> None:
    if placement is not None and len(files) > 1:
        raise click.UsageError("--placement is for one host: give --days only once")
    pasts = [past_in(file) for file in files] or [past_in(*configured_days(load_config(config or os.environ.get("MOM_CONFIG"))))]
    hosts = [sold.sold_on(item, risk) for item in pasts]
    first = hosts[0]
    if as_json:
        click.echo(json.dumps(sold.as_json(hosts, risk), indent=2))
    for host in () if as_json else hosts:
        for line in sold.lines_of(host, risk):
            print_prose(line, 4)
        if rows := sold.rows(host):
            print_table(("platform", TableColumn("setting", 1), "possible", "today"), rows)
    if placement is not None and first.advice is not None:
        _hand_out(script(first.advice, list(sold.lines_of(first, risk))), placement, printed=not as_json)
    if not any(item.result for item in hosts):
        sys.exit(1)


def _placement(trials: Trials, host: str, fits: int | None) -> PlacementAdvice | str:
    if fits is None:
        return "no ratio for placement: the memory that can be sold without harm is unknown"
    before = trials.before
    return placement_of(host, before.total, before.promisable, trials.sold[fits])


def _hand_out(text: str, file: str, *, printed: bool) -> None:
    if file != "-":
        write_output(Path(file), text, 0o755)
        click.echo(file, err=not printed)
    elif printed:
        print_text(text)


def _result_lines(search: CapacitySearch, fits: int | None, sla_class: str, seconds: float) -> tuple[list[str], list[str]]:
    if fits is None:
        baseline = search.counts.get(0)
        harm = baseline.harm if baseline is not None else ""
        why = f"no guest of class {sla_class} fits: even without new guests, {harm}"
        summary = [why if harm else f"it is unknown how many guests of class {sla_class} fit"]
    else:
        runs = search.counts[fits].runs
        more = ("at least " if fits == search.most else "") + count_of(fits, "more guest")
        summary = [
            f"room for {more} of class {sla_class}: no harm in {runs} runs of {format_duration(round(seconds))},"
            f" so a risk of at most {100 * risk_of(runs):.0f} % (95 % confidence)"
        ]
    if not search.complete:
        summary.append("the time limit ended the search early: increase --time, or reduce --hours and --seeds")
    return summary, [
        f"  {'more':>5}  {'runs':>4}  harm",
        *(f"  {item.count:>5}  {item.runs:>4}  {item.harm or 'none'}" for item in search.tried),
    ]
