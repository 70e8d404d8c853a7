"""`mom explain`."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

import click

from mom_core import Config, MomError, Report, as_number, lasting, load_config, printable
from mom_core.plugins.discovery import LoadedPlugin, available_plugins, load_plugins
from mom_core.plugins.registry import explainers_of
from mom_daemon import KeptPath, config_option, json_option, moment
from mom_daemon.cli.output import terminal_columns, wrapped
from mom_daemon.explain.explanation import Explainers
from mom_daemon.look.sources import NotRunning, ask, find_guest, recording
from mom_kvm import PastCycle, PastCycles

Explanation: TypeAlias = "Mapping[str, Any]"
"""JSON object of `Explainers.explain`, with its source (`from`), age and remarks."""

GAP_CYCLES: Final = 3
LEAST_GAP_SECONDS: Final = 10.0

WRITTEN_SECONDS: Final = 1e-6

WIDEST: Final = 100


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
    content = _recorded(guest, at, path, config_path) if at is not None or path is not None else _now(guest, config_path)
    if as_json:
        click.echo(json.dumps(content, indent=2))
        return
    for line in _lines(content):
        click.echo(line)


# --- from the running mom ------------------------------------------------------------------------------------------------------


def _now(guest: str, config_path: str | None) -> Explanation:
    try:
        content, where = ask(load_config(config_path), lambda running: running.explanation(guest))
    except NotRunning as error:
        raise MomError(error.message, hint=f"{error.hint}, or use --at to read a recording") from None
    return {"from": where, "age_seconds": max(0.0, time.time() - float(content["time"])), "remarks": [], **content}


# --- from a recording ----------------------------------------------------------------------------------------------------------


def _recorded(guest: str, at: str | None, path: Path | None, config_path: str | None) -> Explanation:
    config = load_config(config_path) if config_path is not None or path is None else None
    then = moment(at, "--at", time.time())
    recorded = recording(config, path)
    cycle = _cycle_at(recorded, then)
    chosen = find_guest(cycle.report.snapshot.guests, guest, cycle.report.guests_unknown)
    content = Explainers(explainers_of(_plugins(config))).explain(cycle.report, chosen, texts=cycle.policies, zone=UTC)
    return {"from": recorded.where, "age_seconds": None, "remarks": [] if at is None else _gap(cycle.report, then), **content}


def _plugins(config: Config | None) -> Iterable[LoadedPlugin]:
    if config is not None:
        return [plugin.loaded for plugin in config.plugins.values()]
    return load_plugins(list(available_plugins()))[0].values()


def _cycle_at(recorded: PastCycles, then: float) -> PastCycle:
    until = then + WRITTEN_SECONDS
    for seconds in _BACKWARDS:
        last = deque(recorded.cycles(until - seconds, until), maxlen=1)
        if last:
            return last[0]
    first = next(iter(recorded.cycles(then, math.inf)), None)
    if first is None:
        hint = "mom has not finished a cycle since it began to record, or the whole recording is damaged"
        raise MomError(f"there is no cycle in {recorded.where}", hint=hint)
    raise MomError(f"nothing was recorded at {_shown(then)}", hint=f"the recording begins at {_shown(first.report.time)}")


_BACKWARDS: Final = (600.0, 86_400.0, math.inf)
"""Seconds before a time in which to look for a cycle: reading a whole recording is slow."""


def _gap(report: Report, then: float) -> list[str]:
    usual = as_number(report.snapshot.host.properties.get("interval")) or 0.0
    away = then - report.time
    if away <= max(GAP_CYCLES * usual, LEAST_GAP_SECONDS):
        return []
    return [f"Nothing was recorded at {_shown(then)}: this is the last cycle before that time, {lasting(away)} earlier."]


def _shown(moment_: float) -> str:
    return datetime.fromtimestamp(moment_, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- for a person --------------------------------------------------------------------------------------------------------------


def _lines(content: Explanation) -> Iterator[str]:
    columns = terminal_columns()
    width = sys.maxsize if columns is None else min(WIDEST, columns)
    name, age = printable(content["guest"]["name"]), content["age_seconds"]
    when = _shown(content["time"]) if age is None else f"{lasting(age)} ago"
    yield from wrapped(f"{click.style(name, bold=True)}, as of cycle {content['cycle']}, {when}, from {content['from']}", width)
    for remark in content["remarks"]:
        yield from wrapped(click.style(remark, fg="yellow"), width)
    column = max(len(sentence["topic"]) for sentence in content["sentences"]) + 2
    before = ""
    for sentence in content["sentences"]:
        topic = sentence["topic"]
        label = "" if topic == before else topic.capitalize()
        before = topic
        colour = {"harm": "red", "problems": "red", "unknown": "yellow"}.get(topic)
        head = click.style(label.ljust(column), bold=True, fg=colour)
        yield from wrapped(head + sentence["text"], width, column)
