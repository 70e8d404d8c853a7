"""`mom advise`: by days that were learned, how much can be sold; by a recording, how many more guests fit, simulated within its time."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from mom_core import UnitError, format_duration, load_config, parse_duration, parse_size, printable
from mom_daemon import (
    ExistingPath,
    FiniteRange,
    KeptPath,
    TableColumn,
    json_option,
    past_days,
    print_prose,
    print_table,
    print_text,
    progress,
    write_output,
)
from mom_kvm import quiet
from mom_plugins_record.advise import sold
from mom_plugins_record.advise.placement import PlacementAdvice, placement_of, script
from mom_plugins_record.advise.ratio import RISK
from mom_plugins_record.advise.search import CapacitySearch, TimeIsOver
from mom_plugins_record.advise.trial import Trials, stage_of
from mom_plugins_record.replay.stage import RecordedStage
from mom_plugins_record.report.sizes import risk_of


@click.command()
@click.argument("recording", type=KeptPath(), required=False)
@click.option("--risk", metavar="SHARE", help=f"Without RECORDING: of a month, that some guest lacks memory.  [default: {100 * RISK:g}%]")
@click.option(
    "--days", type=KeptPath(), multiple=True, metavar="FILE", help="Without RECORDING: a file past.json, also of another host; several."
)
@click.option("--class", "sla_class", metavar="CLASS", help="With RECORDING: the service class of the guests that would come.")
@click.option("--memory", metavar="SIZE", help="What each of them is sold, such as 4GiB.  [default: what recorded guests are]")
@click.option("--most", type=click.IntRange(1, 1000), default=64, show_default=True, help="No more than this many are tried.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=10, show_default=True, help="How often each number is simulated.")
@click.option("--hours", type=FiniteRange(0.01, 24 * 365), help="How much of the recording is simulated.  [default: all]")
@click.option("--time", "time_limit", default="5m", show_default=True, metavar="TIME", help="End after this, with what is known.")
@click.option("--placement", metavar="FILE", help="Write the commands that tell OpenStack's placement what fits to FILE; - prints them.")
@click.option(
    "-c",
    "--config",
    "config_path",
    type=ExistingPath(),
    metavar="FILE",
    help="Take classes and settings from there.  [default: the recording's]",
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
    """Say how much memory can be sold on this host at a stated risk; or how many more guests of a class fit on a recorded one.

    \b
    mom advise --risk 1%                       by the days that the plugin forecast has learned of this host's guests
    mom advise --days a/past.json --days b/past.json    of several hosts, whose files were copied here
    mom advise RECORDING --class gold          by simulation

    By learned days: the host is filled with its guests and with copies of them, day after day that was learned; peaks of days follow
    Gumbel's distribution of extreme values, and how sure that is follows from days that are drawn again and again. Said is what can be
    sold so that in a month some guest lacks memory with no more than that risk, and what to set for that in OpenStack, KubeVirt,
    CloudStack and Proxmox VE. Two weeks must have been learned. What goes to swap or is merged is left out of account.

    With RECORDING, the recorded host and its guests are simulated again, with more and more guests beside them, each number several times.
    The newcomers do what recorded guests did, at another time. Harm is: more promised than the host has, a promise broken, programs killed,
    the host swapping, a recorded guest that loses 1 % of its work more than without newcomers, or a newcomer that loses 5 % of its own.
    Where the plugin offload was recorded, cold memory goes to swap in the simulation, too, and is no harm by itself: half of what was seen
    to be cold of a guest counts as such, and nothing of a newcomer. Nothing real is touched. Exit code 1 when not even one fits.

    --placement makes a script of it for the operator of an OpenStack cloud, with the ratio at which the host's memory can be sold. mom does
    not run it.
    """
    if recording is None:
        if sla_class is not None or memory is not None or hours is not None:
            raise click.UsageError("--class, --memory and --hours are for a RECORDING, which is not named")
        _by_days(_share(risk), days, config_path, placement, as_json=as_json)
        return
    if risk is not None or days:
        raise click.UsageError("--risk and --days are for learned days: leave RECORDING out")
    if sla_class is None:
        raise click.UsageError("--class is missing: which guests would come?")
    try:
        limit = parse_duration(time_limit)
        memory_kib = None if memory is None else parse_size(memory) / 1024
    except UnitError as error:
        raise click.UsageError(str(error)) from None
    asked = _Asked(sla_class, memory, memory_kib, most, seeds, time.monotonic() + limit)
    stage = stage_of(recording, config_path, None if hours is None else hours * 3600)
    answer = _searched(stage, asked, shown=not as_json)
    _print(answer, placement, as_json=as_json)
    if not answer.fits:
        sys.exit(1)


class _Asked(NamedTuple):
    """Newcomers that are asked about, and how hard to search."""

    sla_class: str
    memory: str | None
    memory_kib: float | None
    most: int
    seeds: int
    ends: float
    """By the monotonic clock."""


class _Answer(NamedTuple):
    """Search that has ended."""

    asked: _Asked
    stage: RecordedStage
    trials: Trials
    search: CapacitySearch
    fits: int | None


def _searched(stage: RecordedStage, asked: _Asked, *, shown: bool) -> _Answer:
    """Simulate more and more newcomers until one comes to harm, or the time is over."""
    with progress(shown=shown) as say:

        def beat(count: int, seed: int, share: float) -> None:
            if time.monotonic() > asked.ends and search.tried:
                raise TimeIsOver
            say(f"{count} more, run {seed} of {asked.seeds}: {100 * share:.0f} %")

        trials = Trials(stage, asked.sla_class, asked.memory_kib, beat)
        search = CapacitySearch(trials.harm, asked.seeds, asked.most, lambda: time.monotonic() > asked.ends)
        fits = search.largest()
    return _Answer(asked, stage, trials, search, fits)


def _print(answer: _Answer, placement: str | None, *, as_json: bool) -> None:
    """Print how many fit, and write the script for OpenStack's placement."""
    asked, stage, trials, search, fits = answer
    told = list(_told(search, fits, asked.sla_class, stage.seconds))
    advice = None if placement is None else _placement(trials, stage.host, fits)
    if as_json:
        more = {} if placement is None else {"placement": advice._asdict() if isinstance(advice, PlacementAdvice) else None}
        click.echo(json.dumps({**_as_json(search, fits, asked.sla_class), **more}, indent=2))
    else:
        for line in told:
            print_prose(line, 4)
        if remark := trials.before.remark:
            print_prose(f"without any newcomer, the simulation says, {remark}: only what is more counts as harm", 4)
    if isinstance(advice, PlacementAdvice):
        sizes = f"of {asked.memory} each" if asked.memory is not None else "each as recorded guests are"
        short = [line for line in told if not line.startswith("  ")]
        _hand_out(script(advice, [*short, f"Newcomers were {sizes}, beside the guests of then."]), str(placement), printed=not as_json)
    elif advice is not None and not as_json:
        print_prose(advice, 4)


def _share(risk: str | None) -> float:
    """Return the risk, as a share between 0 and 1."""
    if risk is None:
        return RISK
    try:
        share = float(risk.removesuffix("%")) / (100 if risk.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise click.UsageError(f"--risk: {printable(risk, 40)} is no risk between 0 and 100 %, such as 1%")
    return share


def _by_days(risk: float, files: Sequence[Path], config: Path | None, placement: str | None, *, as_json: bool) -> None:
    """Say how much can be sold by learned days."""
    if placement is not None and len(files) > 1:
        raise click.UsageError("--placement is for one host: name one file of days")
    known = [past_days(None, file) for file in files] or [past_days(load_config(config or os.environ.get("MOM_CONFIG")), None)]
    hosts = [sold.sold_on(item, risk) for item in known]
    first = hosts[0]
    if as_json:
        click.echo(json.dumps(sold.as_json(hosts, risk), indent=2))
    for host in () if as_json else hosts:
        for line in sold.told(host, risk):
            print_prose(line, 4)
        if found := sold.rows(host):
            print_table(("where", TableColumn("what to set", 1), "could be", "today"), found)
    if placement is not None and first.advice is not None:
        _hand_out(script(first.advice, list(sold.told(first, risk))), placement, printed=not as_json)
    if not any(item.found for item in hosts):
        sys.exit(1)


def _placement(trials: Trials, host: str, fits: int | None) -> PlacementAdvice | str:
    if fits is None:
        return "no ratio for placement: how much could be sold without harm is not known"
    before = trials.before
    return placement_of(host, before.total, before.promisable, trials.sold[fits])


def _hand_out(text: str, file: str, *, printed: bool) -> None:
    if file != "-":
        write_output(Path(file), text, 0o755)
        click.echo(file, err=not printed)
    elif printed:
        print_text(text)


def _told(search: CapacitySearch, fits: int | None, sla_class: str, seconds: float) -> Iterator[str]:
    if fits is None:
        baseline = search.counts.get(0)
        why = baseline.harm if baseline is not None and baseline.harm else "the time was too short to tell"
        yield f"no guest of class {sla_class} fits: without any, {why}"
    else:
        runs = search.counts[fits].runs
        most = " or more" if fits == search.most else ""
        yield (
            f"{fits}{most} more guests of class {sla_class} fit: no harm in {runs} runs of {format_duration(round(seconds))},"
            f" so a risk of at most {100 * risk_of(runs):.0f} % (95 % confidence)"
        )
    if not search.complete:
        yield "the time was over before all was tried: --time gives more, --hours and --seeds ask for less"
    yield f"  {'more':>5}  {'runs':>4}  harm"
    for item in search.tried:
        yield f"  {item.count:>5}  {item.runs:>4}  {item.harm or 'none'}"


def _as_json(search: CapacitySearch, fits: int | None, sla_class: str) -> dict[str, object]:
    tried = [{"more": item.count, "runs": item.runs, "harm": item.harm} for item in search.tried]
    risk = None if fits is None else risk_of(search.counts[fits].runs)
    return {"class": sla_class, "fits": fits, "risk": risk, "complete": search.complete, "tried": tried}
