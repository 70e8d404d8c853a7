"""`mom eviction`: which guests mom has stopped, and letting one go on before there is room."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from mom_core import MomError, StateFile, format_kib, json_option, load_config, print_prose, printable
from mom_plugins_eviction import move_jobs
from mom_plugins_eviction.ladder import Stopped
from mom_plugins_eviction.move_jobs import KeptMove
from mom_plugins_eviction.plugin import REQUESTS, EvictionPlugin
from mom_plugins_eviction.remembered import FILE, FORM, LOSS, WHAT
from mom_plugins_eviction.requests import ResumeRequests
from mom_plugins_eviction.steps import Step

_DONE: Final = {Step.PAUSE: "paused", Step.SAVE: "saved to disk", Step.SHUT_DOWN: "shut down"}
_BEGUN: Final = {Step.PAUSE: "to be paused", Step.SAVE: "to be saved to disk", Step.SHUT_DOWN: "asked to shut down"}

_config_option = click.option(
    "-c", "--config", "config_path", metavar="FILE", envvar="MOM_CONFIG", help="The configuration file; /etc/mom/mom.yaml by default."
)


@click.group("eviction", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@_config_option
@json_option
@click.pass_context
def eviction(context: click.Context, config_path: str | None, as_json: bool) -> None:
    """Show the guests that mom has stopped because the host was full, and those that are being moved, and since when."""
    context.obj = config_path
    if context.invoked_subcommand is not None:
        return
    folder = _folder(config_path)
    stopped, moves = _stopped(folder), _moves(folder)
    if as_json:
        moving = [{"step": str(Step.MIGRATE), **asdict(one), "destination": str(one.destination)} for one in moves]
        click.echo(json.dumps([*(asdict(one) for one in stopped), *moving], indent=2))
        return
    if not stopped:
        print_prose("mom has stopped no guest.", 2)
    for line in _table(stopped) if stopped else ():
        print_prose(line, 2)
    for one in moves:
        since = _moment(one.time)
        how = f"perhaps {one.what} since {since}: {printable(one.lost, 400)}" if one.lost else f"{one.what} since {since}"
        print_prose(f"{printable(one.name, 40)} is {how}, by {printable(one.mover, 100)}.", 2)


@eviction.command("undo")
@click.argument("guest")
@_config_option
@click.option("--timeout", type=click.FloatRange(1, 7200), default=60.0, show_default=True, help="Seconds to wait at most.")
@click.pass_obj
def undo(above: str | None, guest: str, config_path: str | None, timeout: float) -> None:
    """Have the mom that runs let GUEST go on now, by its name or id, though there may be no room for it. Of a guest whose move is lost, say
    that it is not being moved any more: look at what moves guests first.

    Exit code 1 when it does not go on.
    """
    folder = _folder(config_path or above)
    one = _named([*_stopped(folder), *(move for move in _moves(folder) if move.lost)], guest)
    error = ResumeRequests(folder / REQUESTS).ask(one.identity, timeout)
    if error:
        raise MomError(f"guest {printable(one.name)} does not go on: {printable(error, 300)}")
    print_prose(f"Guest {printable(one.name)} goes on.", 2)


def _folder(config_path: str | None) -> Path:
    config = load_config(config_path)
    name = next((name for name, one in config.plugins.items() if isinstance(one.settings, EvictionPlugin.Settings)), None)
    if name is None:
        raise MomError("the configuration does not enable the plugin eviction", hint="add `eviction: {}` to `plugins`")
    return config.state_directory / name


def _stopped(folder: Path) -> Sequence[Stopped]:
    """Raises `MomError`."""
    return StateFile(folder / FILE, WHAT, FORM, loss=LOSS).look() or ()


def _moves(folder: Path) -> Sequence[KeptMove]:
    """Raises `MomError`."""
    return StateFile(folder / move_jobs.FILE, move_jobs.WHAT, move_jobs.FORM, loss=move_jobs.LOSS).look() or ()


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _named(stopped: Sequence[Stopped | KeptMove], guest: str) -> Stopped | KeptMove:
    found = [one for one in stopped if guest == one.identity] or [one for one in stopped if guest == one.name]
    if len(found) > 1:
        raise MomError(f"{len(found)} guests of that name are stopped", hint=f"say which: {', '.join(one.identity for one in found)}")
    if not found:
        names = ", ".join(printable(one.name) for one in stopped)
        raise MomError(
            f"mom has not stopped a guest {printable(guest)}", hint=f"it has stopped: {names}" if names else "it has stopped none"
        )
    return found[0]


def _table(stopped: Sequence[Stopped]) -> list[str]:
    rows = [("GUEST", "STATE", "SINCE", "NEEDS", "COMES BACK")]
    for one in stopped:
        since = _moment(one.time)
        state = _DONE.get(one.step, str(one.step)) if one.done else _BEGUN.get(one.step, str(one.step))
        back = "when there is room" if one.comes_back else "by hand"
        rows.append(
            (printable(one.name, 40), state, since, "nothing more" if one.step is Step.PAUSE else format_kib(round(one.needs)), back)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
