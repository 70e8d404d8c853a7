"""Subcommand `mom replay`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from mom_core import printable
from mom_daemon import KeptPath, brief, json_option, moment, print_prose
from mom_kvm import SimulationSetup
from mom_plugins_record.recording.reader import Recording, format_time
from mom_plugins_record.replay.comparison import Comparison, DecisionDifference, compare

SHOWN: Final = 10
"""The text shows at most this many differences; `--json` shows all."""

FAILURES: Final = ("below-need", "difference")


_PATH: Final = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("path", metavar="RECORDING", type=KeptPath())
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=_PATH,
    metavar="FILE|FOLDER",
    help="Use these policies instead of the recorded ones of the same names.",
)
@click.option("--from", "since", metavar="TIME", help="Start, such as 2026-11-20T08:00 (UTC, unless it has another zone).")
@click.option("--to", "until", metavar="TIME", help="End, in the format of --from.")
@click.option("--fail-on", "failures", type=click.Choice(FAILURES), multiple=True, help="Exit with code 1 for this; may be repeated.")
@json_option
def replay(path: Path, policies: tuple[Path, ...], since: str | None, until: str | None, failures: tuple[str, ...], as_json: bool) -> None:
    """Evaluate a recording again, with its own policies or with others, to compare decisions.

    RECORDING is the folder of the `record` plugin, or one file of it. The command touches nothing real.
    """
    begins, ends = moment(since, "--from", float("-inf")), moment(until, "--to", float("inf"))
    logging.getLogger("mom").addHandler(logging.NullHandler())  # evaluators log for a daemon
    recording = Recording(path)
    texts = _texts(recording, policies, begins) if policies else None
    result = compare(recording, texts, begins, ends)
    occurs = {"below-need": bool(result.now.below_need), "difference": result.identical < result.compared}
    failed = [failure for failure in failures if occurs[failure]]
    if as_json:
        click.echo(json.dumps({**asdict(result), "failed": failed}, indent=2, default=str))
    else:
        for line in _lines(result, other=texts is not None):
            print_prose(brief(line, LONGEST_LINE), 4)  # names and texts come from the recording
        if failed:
            print_prose(f"failed checks: {', '.join(failed)}", 4)
    lost = []
    if texts is not None and result.failures:
        lost.append(f"these policies fail in {result.failures} of {result.evaluated} recorded cycles: their decisions are missing there")
    if failures and not result.compared:
        lost.append("no cycle could be compared, so --fail-on has no result: use a longer recording, or one that begins at mom's start")
    for line in lost:
        print_prose(line, 4, err=True)
    if failed or lost:
        raise click.exceptions.Exit(1)


def _texts(recording: Recording, policies: Sequence[Path], since: float) -> dict[str, str]:
    first = next(recording.cycles(since), None)
    return {**(first.policies if first is not None else {}), **SimulationSetup.texts_in(policies)}


def _lines(result: Comparison, *, other: bool) -> Iterator[str]:
    span = f", {format_time(result.begins)} to {format_time(result.ends)}" if result.begins is not None and result.ends is not None else ""
    yield f"{result.compared} cycles compared{span}"
    if result.warming:
        yield f"{result.warming} more cycles were evaluated but not compared: they depend on earlier cycles that the recording lacks"
    if result.damage:
        yield result.damage
    for name, reason in result.left_out.items():
        yield f"not replayed: {name} ({reason})"
    yield from (f"problem, {count} times: {printable(message, 200)}" for message, count in result.problems.items())
    yield ""
    yield "Results for the recorded state:"
    if not result.compared:
        yield "  unknown: no cycle could be compared"
        return
    if result.identical == result.compared:
        yield f"  all decisions are identical, {result.now.decisions} of them"
    else:
        differing = result.compared - result.identical
        yield f"  {differing} of {result.compared} cycles differ; {result.then.decisions} recorded decisions, {result.now.decisions} now"
        yield from (
            f"    {difference.entity} {difference.control}: in {difference.cycles} cycles, first {_first_case(difference)}"
            for difference in result.most_different[:SHOWN]
        )
        if len(result.differences) > SHOWN:
            yield f"    and {len(result.differences) - SHOWN} more"
    for title, series in ((" (then)", result.then), (" (now)", result.now)) if other else (("", result.now),):
        cases = series.worst_first
        times = f"{len(cases)}, {sum(case.count for case in cases)} times" if cases else "none"
        yield f"  decisions below what the guest needs{title}: {times}"
        yield from (f"    {case.entity}: {case.count} times since {format_time(case.first)}, {case.example}" for case in cases[:SHOWN])
    if other:
        yield "  These results do not show how changed decisions would have affected later cycles."


LONGEST_LINE = 2000
"""Longest line of output, in characters."""


def _first_case(difference: DecisionDifference) -> str:
    then = "nothing" if difference.then is None else f"{difference.then} ({difference.then_from})"
    now = "nothing" if difference.now is None else f"{difference.now} ({difference.now_from})"
    return f"{format_time(difference.time)} (cycle {difference.number}): {then} then, {now} now"
