"""`mom advise`: simulates within its time, shows how far it is, and tells what it found."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from mom_core import MomError, UnitError, format_duration, parse_duration, parse_size, replace_file
from mom_daemon import json_option, print_prose, progress
from mom_plugins_record.advise.placement import PlacementAdvice, placement_of, script
from mom_plugins_record.advise.search import CapacitySearch, TimeIsOver
from mom_plugins_record.advise.trial import Trials, stage_of
from mom_plugins_record.report.sizes import risk_of
from mom_toolkit import quiet

_PATH: Final = click.Path(path_type=Path)


@click.command()
@click.argument("recording", type=_PATH)
@click.option("--class", "sla_class", required=True, metavar="CLASS", help="The service class of the guests that would come.")
@click.option("--memory", metavar="SIZE", help="What each of them is sold, such as 4GiB.  [default: what recorded guests are]")
@click.option("--most", type=click.IntRange(1, 1000), default=64, show_default=True, help="No more than this many are tried.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=10, show_default=True, help="How often each number is simulated.")
@click.option("--hours", type=click.FloatRange(0.01, 24 * 365), help="How much of the recording is simulated.  [default: all]")
@click.option("--time", "time_limit", default="5m", show_default=True, metavar="TIME", help="End after this, with what is known.")
@click.option("--placement", metavar="FILE", help="Write the commands that tell OpenStack's placement what fits to FILE; - prints them.")
@click.option("-c", "--config", type=_PATH, metavar="FILE", help="Take classes and settings from there.  [default: the recording's]")
@json_option
@quiet(logging.CRITICAL)
def advise(
    recording: Path,
    sla_class: str,
    memory: str | None,
    most: int,
    seeds: int,
    hours: float | None,
    time_limit: str,
    placement: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Say how many more guests of a class would fit on a recorded host, and at which risk.

    The recorded host and its guests are simulated again, with more and more guests beside them, each number several times. The newcomers
    do what recorded guests did, at another time. Harm is: more promised than the host has, a promise broken, programs killed, the host
    swapping, a recorded guest that loses 1 % of its work more than without newcomers, or a newcomer that loses 5 % of its own. Where the
    plugin offload was recorded, cold memory goes to swap in the simulation, too, and is no harm by itself: half of what was seen to be cold
    of a guest counts as such, and nothing of a newcomer. Nothing real is touched. Exit code 1 when not even one fits.

    --placement makes a script of it for the operator of an OpenStack cloud, with the ratio at which the host's memory can be sold. mom does
    not run it.
    """
    try:
        limit = parse_duration(time_limit)
        memory_kib = None if memory is None else parse_size(memory) / 1024
    except UnitError as error:
        raise click.UsageError(str(error)) from None
    ends = time.monotonic() + limit
    stage = stage_of(recording, config, None if hours is None else hours * 3600)
    with progress(shown=not as_json) as say:

        def beat(count: int, seed: int, share: float) -> None:
            if time.monotonic() > ends and search.tried:
                raise TimeIsOver
            say(f"{count} more, run {seed} of {seeds}: {100 * share:.0f} %")

        trials = Trials(stage, sla_class, memory_kib, beat)
        search = CapacitySearch(trials.harm, seeds, most, lambda: time.monotonic() > ends)
        fits = search.largest()
    told = list(_told(search, fits, sla_class, stage.seconds))
    found = None if placement is None else _placement(trials, stage.host, fits)
    if as_json:
        asked = {} if placement is None else {"placement": found._asdict() if isinstance(found, PlacementAdvice) else None}
        click.echo(json.dumps({**_as_json(search, fits, sla_class), **asked}, indent=2))
    else:
        for line in told:
            print_prose(line, 4)
        remark = trials.before.remark
        if remark:
            print_prose(f"without any newcomer, the simulation says, {remark}: only what is more counts as harm", 4)
    if isinstance(found, PlacementAdvice):
        sizes = f"of {memory} each" if memory is not None else "each as recorded guests are"
        short = [line for line in told if not line.startswith("  ")]
        _hand_out(script(found, [*short, f"Newcomers were {sizes}, beside the guests of then."]), str(placement), printed=not as_json)
    elif found is not None and not as_json:
        print_prose(found, 4)
    if not fits:
        sys.exit(1)


def _placement(trials: Trials, host: str, fits: int | None) -> PlacementAdvice | str:
    if fits is None:
        return "no ratio for placement: how much could be sold without harm is not known"
    before = trials.before
    return placement_of(host, before.total, before.promisable, trials.sold[fits])


def _hand_out(text: str, file: str, *, printed: bool) -> None:
    if file != "-":
        try:
            replace_file(Path(file), text, durable=False, mode=0o755)
        except OSError as error:
            raise MomError(f"cannot write {file}: {error.strerror}") from error
        click.echo(file, err=not printed)
    elif printed:
        click.echo(text, nl=False)


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
    for one in search.tried:
        yield f"  {one.count:>5}  {one.runs:>4}  {one.harm or 'none'}"


def _as_json(search: CapacitySearch, fits: int | None, sla_class: str) -> dict[str, object]:
    tried = [{"more": one.count, "runs": one.runs, "harm": one.harm} for one in search.tried]
    risk = None if fits is None else risk_of(search.counts[fits].runs)
    return {"class": sla_class, "fits": fits, "risk": risk, "complete": search.complete, "tried": tried}
