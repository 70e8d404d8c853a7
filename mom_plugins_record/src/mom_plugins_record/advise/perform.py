"""`mom advise`: simulates within its time, shows how far it is, and tells what it found."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from mom_core import UnitError, format_duration, format_kib, parse_duration, parse_size
from mom_daemon import print_prose
from mom_plugins_record.advise.search import CapacitySearch, TriedCount
from mom_plugins_record.advise.trial import Newcomer, TrialOutcome, stage_of
from mom_plugins_record.report.sizes import risk_of
from mom_toolkit import quiet


@dataclass(frozen=True, slots=True)
class AdviseOptions:
    """Options of the command line."""

    sla_class: str
    memory: str | None
    most: int
    seeds: int
    hours: float | None
    time_limit: str
    config: Path | None


class _TimeIsOver(Exception):
    """Raised in the middle of a run whose time is over."""


@quiet(logging.CRITICAL)
def perform(recording: Path, asked: AdviseOptions, *, as_json: bool) -> None:
    """Answer, and exit with 1 when nothing fits."""
    try:
        limit = parse_duration(asked.time_limit)
        memory = None if asked.memory is None else parse_size(asked.memory) / 1024
    except UnitError as error:
        raise click.UsageError(str(error)) from None
    ends = time.monotonic() + limit
    stage = stage_of(recording, asked.config, None if asked.hours is None else asked.hours * 3600)
    newcomer = Newcomer(asked.sla_class, memory)
    cut_off = False
    seen: list[int] = []
    before = TrialOutcome()
    cold = 0.0
    with _progress(shown=not as_json) as say:

        def run(count: int, seed: int) -> str:
            def beat(share: float) -> None:
                if time.monotonic() > ends and seen:
                    raise _TimeIsOver
                say(f"{count} more, run {seed} of {asked.seeds}: {100 * share:.0f} %")

            nonlocal before
            done = stage.run(newcomer, count, seed, before, beat)
            nonlocal cold
            cold = max(cold, done.cold)
            if not count:
                before = done
            seen.append(count)
            return done.harm

        search = CapacitySearch(run, asked.seeds, asked.most, lambda: time.monotonic() > ends)
        try:
            fits = search.largest()
        except _TimeIsOver:
            cut_off = True
            fits = _known(search)
    if as_json:
        click.echo(json.dumps(_as_json(search, fits, asked, cut_off), indent=2))
    else:
        for line in _told(search, fits, asked, stage.seconds, cut_off):
            print_prose(line, 4)
        if cold:
            counted = "no more than half of what was recorded as cold of a guest counts as such, and nothing of a newcomer"
            print_prose(f"up to {format_kib(cold)} of guests' memory were in the host's swap, because they hardly touch it: {counted}", 4)
        if before.remark:
            print_prose(f"without any newcomer, the simulation says, {before.remark}: only what is more counts as harm", 4)
    if not fits:
        sys.exit(1)


def _known(search: CapacitySearch) -> int | None:
    """The largest number that was tried to some end and held, when time was over."""
    held = [one.count for one in search.tried.values() if one.runs and not one.harm]
    return max(held, default=None)


def _told(search: CapacitySearch, fits: int | None, asked: AdviseOptions, seconds: float, cut_off: bool) -> Iterator[str]:
    if fits is None:
        baseline = search.tried.get(0)
        why = baseline.harm if baseline is not None and baseline.harm else "the time was too short to tell"
        yield f"no guest of class {asked.sla_class} fits: without any, {why}"
    else:
        runs = search.tried[fits].runs
        most = " or more" if fits == asked.most else ""
        yield (
            f"{fits}{most} more guests of class {asked.sla_class} fit: no harm in {runs} runs of {format_duration(round(seconds))},"
            f" so a risk of at most {100 * risk_of(runs):.0f} % (95 % confidence)"
        )
    if cut_off or not search.complete:
        yield f"the time of {asked.time_limit} was over before all was tried: --time gives more, --hours and --seeds ask for less"
    yield f"  {'more':>5}  {'runs':>4}  harm"
    for one in _tried(search):
        yield f"  {one.count:>5}  {one.runs:>4}  {one.harm or 'none'}"


def _tried(search: CapacitySearch) -> list[TriedCount]:
    return sorted((one for one in search.tried.values() if one.runs), key=lambda one: one.count)


def _as_json(search: CapacitySearch, fits: int | None, asked: AdviseOptions, cut_off: bool) -> dict[str, object]:
    tried = [{"more": one.count, "runs": one.runs, "harm": one.harm} for one in _tried(search)]
    risk = None if fits is None else risk_of(search.tried[fits].runs)
    return {"class": asked.sla_class, "fits": fits, "risk": risk, "complete": search.complete and not cut_off, "tried": tried}


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[str], None]]:
    from rich.console import Console

    console = Console(file=sys.__stderr__ or sys.stderr)  # which it draws on: mom's own shows what steers a terminal
    if not shown or not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update
