"""`mom eviction`: list and resume guests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from mom_core import Config, Guest, MomError, StateFile, format_kib, load_config, printable
from mom_daemon import NoSuchGuest, config_option, find_guest, json_option, print_prose, print_table
from mom_plugins_sla.eviction.jobs import FILE, FORM, LOSS, TITLE, Job, JobState
from mom_plugins_sla.eviction.plugin import REQUESTS, EvictionPlugin
from mom_plugins_sla.eviction.requests import request
from mom_plugins_sla.eviction.steps import TERMS, Step

UNDO_SECONDS = 60.0
"""How long the command waits for the guest."""


@click.group("eviction", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@config_option
@json_option
@click.pass_context
def eviction(context: click.Context, config_path: str | None, as_json: bool) -> None:
    """Show the guests that mom has stopped because the host was full, and the guests that it is moving."""
    context.obj = config_path
    if context.invoked_subcommand is not None:
        return
    jobs = _jobs(_folder(load_config(config_path)))
    if as_json:
        click.echo(FORM.dump_json(tuple(jobs), indent=2).decode())
        return
    stopped = [job for job in jobs if not job.is_move]
    if stopped:
        _print_table(stopped)
    else:
        print_prose("mom has stopped no guest.", 2)
    for item in jobs:
        if item.is_move:
            lost = f": {printable(item.lost, 400)}" if item.lost else ""
            print_prose(f"{printable(item.name, 40)} is {item.activity} by {printable(item.mover, 100)} since {_moment(item)}{lost}.", 2)


@eviction.command("undo")
@click.argument("guest")
@config_option
@click.pass_obj
def undo(above: str | None, guest: str, config_path: str | None) -> None:
    """Resume GUEST (name or id) now, even without room for the guest. If mom does not know how a move ended, this command
    confirms that the move is over. Check the mover first.

    Exit code 1 if the guest does not resume.
    """
    config = load_config(config_path or above)
    folder = _folder(config)
    job = _named(_jobs(folder), guest)
    name = printable(job.name)
    if job.state is JobState.BEGUN:
        reason = f"it is {job.activity}" if job.step is not Step.SHUT_DOWN else "mom asked it to shut down, but it still runs"
        raise MomError(f"guest {name} does not resume: {reason}", hint="try again when the step has ended")
    if config.mode != "enforce" and not job.lost:
        raise MomError(f"guest {name} does not resume: mom only observes", hint="set `mode: enforce`, or start the guest as you usually do")
    request(folder / REQUESTS, job.guest, lambda: all(item.guest != job.guest for item in _jobs(folder)), UNDO_SECONDS)
    print_prose(f"The move of guest {name} is over." if job.lost else f"Guest {name} has resumed.", 2)


def _folder(config: Config) -> Path:
    name = next((name for name, entry in config.plugins.items() if isinstance(entry.settings, EvictionPlugin.Settings)), None)
    if name is None:
        raise MomError("the configuration does not enable the eviction plugin", hint="add `eviction: {}` to `plugins`")
    return config.state_directory / name


def _jobs(folder: Path) -> Sequence[Job]:
    return StateFile(folder / FILE, TITLE, FORM, loss=LOSS).look() or ()


def _moment(job: Job) -> str:
    return datetime.fromtimestamp(job.time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _named(jobs: Sequence[Job], name: str) -> Job:
    by_id = {job.guest: job for job in jobs}
    try:
        return by_id[find_guest({identity: Guest(identity, job.name) for identity, job in by_id.items()}, name).id]
    except NoSuchGuest:
        if any(job.name == name for job in jobs):  # several guests have the name
            raise
        raise MomError(f"mom has not stopped a guest {printable(name)}", hint="`mom eviction` lists stopped guests") from None


def _print_table(stopped: Sequence[Job]) -> None:
    rows = []
    for item in stopped:
        state = ("" if item.state is JobState.DONE else "to be ") + TERMS[item.step].participle
        needs = "nothing more" if item.step is Step.PAUSE else format_kib(round(item.needs))
        rows.append((printable(item.name, 40), state, _moment(item), needs, "when there is room" if item.comes_back else "by hand"))
    print_table(("guest", "state", "since", "needs", "comes back"), rows)
