"""`mom explain`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from mom_core import Config, MomError, lasting, load_config, printable
from mom_core.plugins.discovery import LoadedPlugin, available_plugins, load_plugins
from mom_core.plugins.registry import explainers_of
from mom_daemon import KeptPath, config_option, json_option, moment
from mom_daemon.cli.output import terminal_columns, wrapped
from mom_daemon.explain.explanation import Explainers
from mom_daemon.look.sources import NotRunning, ask, find_guest, newest, recording
from mom_kvm import PastCycle, PastCycles

GAP_CYCLES: Final = 3
LEAST_GAP_SECONDS: Final = 10.0

WRITTEN_SECONDS: Final = 1e-6

WIDEST: Final = 100

_LABELS: Final = {"trial": "On trial"}


@dataclass(frozen=True, slots=True)
class _FoundExplanation:
    content: Mapping[str, Any]
    where: str
    remarks: Sequence[str]
    age: float | None


@click.command("explain")
@click.argument("guest")
@click.option(
    "--at",
    "at",
    metavar="TIME",
    help="Explain the size at this time, from a recording: 2026-11-20T08:00, 10:32 or 5m ago (UTC, unless it has another zone).",
)
@click.option(
    "--recording",
    "path",
    metavar="FOLDER|FILE",
    type=KeptPath(),
    help="Recording to read. Without --at, mom explains its last cycle.  [default: the running mom's]",
)
@config_option
@json_option
def explain_command(guest: str, at: str | None, path: Path | None, config_path: str | None, as_json: bool) -> None:
    """Explain the size of GUEST (a name or UUID): its memory, need and guarantee, the policy's decision with its line, the review, the
    outcome, and the next steps.

    With --at or --recording, the source is a recording, otherwise the running mom. Exit code 1 for an unknown guest, or if mom is not
    running.
    """
    explanation = _recorded(guest, at, path, config_path) if at is not None or path is not None else _now(guest, config_path)
    if as_json:
        click.echo(
            json.dumps(
                {"from": explanation.where, "age_seconds": explanation.age, "remarks": list(explanation.remarks), **explanation.content},
                indent=2,
            )
        )
        return
    for line in _lines(explanation):
        click.echo(line)


# --- from the running mom ------------------------------------------------------------------------------------------------------


def _now(guest: str, config_path: str | None) -> _FoundExplanation:
    config = load_config(config_path)
    try:
        content, where = ask(config, lambda running: running.explanation(guest))
    except NotRunning as error:
        raise MomError(error.message, hint=f"{error.hint}, or use --at to read a recording") from None
    age = max(0.0, time.time() - float(content["time"]))
    return _FoundExplanation(content, where, (), age)


# --- from a recording ----------------------------------------------------------------------------------------------------------


def _recorded(guest: str, at: str | None, path: Path | None, config_path: str | None) -> _FoundExplanation:
    config = load_config(config_path) if config_path is not None or path is None else None
    then = None if at is None else moment(at, "--at")
    recorded = recording(config, path)
    explainers = Explainers(explainers_of(_plugins(config)))
    chosen, following = _cycle_at(recorded, then)
    report = chosen.report
    remarks = [] if then is None else _gap(chosen, then, following)
    chosen_guest = find_guest(report.snapshot.guests, guest, report.guests_unknown)
    content = explainers.explain(report, chosen_guest, texts=chosen.policies, zone=UTC)
    return _FoundExplanation(content, recorded.where, remarks, None)


def _plugins(config: Config | None) -> Iterable[LoadedPlugin]:
    if config is not None:
        return [plugin.loaded for plugin in config.plugins.values()]
    return load_plugins(list(available_plugins()))[0].values()


def _cycle_at(recorded: PastCycles, then: float | None) -> tuple[PastCycle, PastCycle | None]:
    if then is None:
        then = time.time()
    until = then + WRITTEN_SECONDS
    last = newest(recorded, 1, until=until)
    following = next((cycle for cycle in recorded.cycles(then, float("inf")) if cycle.report.time > until), None)
    if last:
        return last[0], following
    if following is None:
        raise _nothing(recorded)
    raise MomError(f"nothing was recorded at {_shown(then)}", hint=f"the recording begins at {_shown(following.report.time)}")


def _nothing(recorded: PastCycles) -> MomError:
    hint = "mom has not finished a cycle since it began to record, or the whole recording is damaged"
    return MomError(f"there is no cycle in {recorded.where}", hint=hint)


def _gap(cycle: PastCycle, then: float, following: PastCycle | None) -> list[str]:
    report = cycle.report
    interval = report.snapshot.host.properties.get("interval")
    usual = interval if isinstance(interval, int | float) else 0.0
    away = then - report.time
    if away <= max(GAP_CYCLES * usual, LEAST_GAP_SECONDS):
        return []
    end = "the recording ends with this cycle" if following is None else f"the next cycle is from {_shown(following.report.time)}"
    return [f"Nothing was recorded at {_shown(then)}: this is the last cycle before that time, {lasting(away)} earlier, and {end}."]


def _shown(moment_: float) -> str:
    return datetime.fromtimestamp(moment_, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- for a person --------------------------------------------------------------------------------------------------------------


def _lines(explanation: _FoundExplanation) -> Iterator[str]:
    columns = terminal_columns()
    width = sys.maxsize if columns is None else min(WIDEST, columns)
    content = explanation.content
    name = printable(content["guest"]["name"])
    when = f"{lasting(explanation.age)} ago" if explanation.age is not None else _shown(content["time"])
    yield from wrapped(f"{click.style(name, bold=True)}, as of cycle {content['cycle']}, {when}, from {explanation.where}", width)
    for remark in explanation.remarks:
        yield from wrapped(click.style(remark, fg="yellow"), width)
    column = max(len(_label(sentence["topic"])) for sentence in content["sentences"]) + 2
    before = ""
    for sentence in content["sentences"]:
        topic = sentence["topic"]
        label = "" if topic == before else _label(topic)
        before = topic
        colour = {"harm": "red", "problems": "red", "unknown": "yellow"}.get(topic)
        head = click.style(label.ljust(column), bold=True, fg=colour)
        yield from wrapped(head + sentence["text"], width, column)


def _label(topic: str) -> str:
    return _LABELS.get(topic, topic.capitalize())
