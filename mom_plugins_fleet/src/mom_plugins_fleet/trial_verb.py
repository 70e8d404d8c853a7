"""`mom fleet policy set --canary`, `--check` and `canary`: policies on some hosts of a group first."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Final

import click

from mom_core import MomError, first_names, lasting, printable
from mom_daemon import TableColumn, brief, json_option, print_prose, print_table
from mom_plugins_fleet.changes import change_group, named, show
from mom_plugins_fleet.link import LinkError, Store
from mom_plugins_fleet.records import Group, Trial, TrialState
from mom_plugins_fleet.signatures import opened
from mom_plugins_fleet.status_verb import holder_of
from mom_plugins_fleet.subjects import GROUPS
from mom_plugins_fleet.trials import LATE_SECONDS, VERDICT_SECONDS, chosen, settle, told, with_followers
from mom_plugins_fleet.view import FleetView
from mom_plugins_fleet.where import Where

ASKED_SECONDS: Final = 20.0
"""How long the hosts are waited for to say what is wrong with a text: they tell every five seconds, unless told otherwise."""

LOOK_SECONDS: Final = 2.0
"""How often it is looked whether they have, or whether a trial has ended."""

_SHOWN: Final = 10


def nothing_on_trial(record: Group) -> None:
    """Raises `MomError` while something is tried, or it is not settled what becomes of it."""
    trial = record.trial
    if trial is None or not trial.on or time.time() >= trial.ends + LATE_SECONDS:
        return
    what, until = printable(trial.what), time.strftime("%H:%M:%S", time.localtime(trial.ends))
    message = f"{what} is being tried on {len(trial.on)} hosts until {until}: nothing else changes meanwhile"
    if time.time() >= trial.ends:
        message = f"the trial of {what} ended at {until}, and what becomes of it is settled within {lasting(LATE_SECONDS)}"
    raise MomError(message, hint="`mom fleet policy canary GROUP --promote` or `--abort` ends it")


def begin_trial(where: Where, group: str, name: str, text: str, share: float | None, seconds: float) -> None:
    """Have hosts say what is wrong with a policy, and then, unless `share` is None, so many of them try it. Prints that. Raises `MomError`
    where some cannot use it: then none tries it."""
    signer = where.signer()

    def tried(record: Group) -> Mapping[str, str]:
        return {**record.policies, name: text}

    async def have(store: Store, on: tuple[str, ...], seconds: float, asked: Trial | None = None) -> int:
        def wanted(before: Group) -> Mapping[str, object]:
            nothing_on_trial(before)
            if asked is not None and before.trial != asked:
                raise _changed(group)
            return {"trial": Trial(on=on, ends=time.time() + seconds, what=name)}

        return await change_group(where, store, group, wanted, lambda one, number: with_followers(signer, group, one, tried(one), number))

    async def begun(store: Store) -> tuple[FleetView, FleetView]:
        view = await where.view(store)
        if not view.hosts_of(named(group)):
            raise MomError(f"no host is in the group {group}", hint="`mom fleet status` shows which groups hosts are in")
        on = () if share is None else chosen(view, group, share)
        before = view.groups.get(group) or Group()
        nothing_on_trial(before)
        show(f"{GROUPS} {group}, if all goes well", before, before.model_copy(update={"policies": tried(before)}))
        revision = await have(store, (), 2 * ASKED_SECONDS)  # no coordinator ends it before this does
        asked = await _answered(where, store, group, revision)
        trial = asked.groups.records[group][1].trial

        def ended(before: Group) -> Mapping[str, object]:
            if before.trial != trial:
                raise _changed(group)
            return {"trial": None}

        if not on or _refused(asked, group) or not told(asked, group):
            await change_group(where, store, group, ended)
            return asked, asked
        await have(store, on, seconds, trial)
        return asked, await where.view(store)

    asked, view = where.ask(begun)
    said: dict[str, list[str]] = {}
    for host, state in told(asked, group).items():
        for one in state.remarks:
            said.setdefault(one, []).append(host)
    for one, hosts in said.items():
        print_prose(f"{brief(one, 300)} (on {first_names(hosts, _SHOWN)})", 4)
    if _refused(asked, group):
        raise MomError("it is set nowhere, as hosts cannot use it", hint="see what they say above")
    agreed, of = len(told(asked, group)), len(asked.hosts_of(group))
    if not agreed:
        raise MomError(
            f"none of {of} hosts has said what is wrong with it: it is set nowhere", hint="`mom fleet status` shows how they are"
        )
    if share is None:
        print_prose(f"It could be set, as {agreed} of {of} hosts say.", 2)
        return
    _print(view, group)
    if not holder_of(view):
        print_prose(f"No coordinator works: `mom fleet policy canary {group} --wait` has it go on to all hosts, or back.", 2)


async def _answered(where: Where, store: Store, group: str, revision: int) -> FleetView:
    """The fleet when all hosts of a group that are there have said what is wrong with its record of that revision, or their time for that
    is over. Raises `MomError` when another record stands there."""
    ends = time.monotonic() + ASKED_SECONDS
    while True:
        view = await where.view(store)
        if group not in view.groups.records or view.groups.records[group][0] != revision:
            raise _changed(group)
        silent = sorted(host for host in {*view.hosts_of(group)} - told(view, group).keys() if view.is_fresh(host))
        if not silent:
            return view
        if time.monotonic() > ends:
            print_prose(f"{first_names(silent, _SHOWN)} did not say what is wrong with it within {ASKED_SECONDS:.0f} s.", 2)
            return view
        await asyncio.sleep(LOOK_SECONDS)


def _changed(group: str) -> MomError:
    return MomError(
        f"the group {group} was changed while its hosts were asked: nothing is tried", hint="see who has changed it, and try again"
    )


def _refused(view: FleetView, group: str) -> bool:
    return any(one.startswith("error") for state in told(view, group).values() for one in state.remarks)


@click.command("canary")
@click.argument("group")
@click.option("--promote", is_flag=True, help="Put it in force on all hosts now.")
@click.option("--abort", is_flag=True, help="End the trial now; nothing changes.")
@click.option("--wait", is_flag=True, help="Wait for its end, and have it go on or back; exit code 1 when it goes back.")
@json_option
@click.pass_obj
def canary_command(where: Where, group: str, promote: bool, abort: bool, wait: bool, as_json: bool) -> None:
    """Show how the policies fare that are tried on some hosts of GROUP, or end that."""
    if promote + abort + wait > 1:
        raise click.UsageError("--promote, --abort and --wait exclude each other")
    trusted = where.operators()

    def tried(record: Group) -> Mapping[str, str] | None:
        if record.trial is None:
            return None
        return opened(Group, GROUPS, group, record.trial.promoted.encode(), trusted).record.policies

    def ended(before: Group) -> Mapping[str, object]:
        policies = tried(before)
        if policies is None:
            raise MomError(f"nothing is tried on hosts of the group {group} now", hint="`mom fleet policy set … --canary 20%` does that")
        return {"policies": policies if promote else before.policies, "trial": None}

    async def looked(store: Store) -> FleetView:
        view = await where.view(store)
        if named(group) not in view.groups.records:
            raise MomError(f"the fleet has no group {group}")
        if promote or abort:
            await change_group(where, store, group, ended)
            return await where.view(store)
        if wait:
            await settle(store, view, group, time.time())
        return view

    view = where.ask(looked)
    wanted = tried(view.groups.records[group][1])
    while wait and (going := view.groups.records[group][1].trial) is not None:
        time.sleep(LOOK_SECONDS)
        try:
            view = where.ask(looked)
        except LinkError:  # servers that are away for a while end no trial; when this is over, hosts have gone back by themselves
            if time.time() > going.ends + VERDICT_SECONDS:
                raise
    record = view.groups.records[group][1]
    if as_json:
        hosts = {host: one.model_dump(mode="json") for host, one in told(view, group).items()}
        trial = record.trial and record.trial.model_dump(exclude={"promoted", "rolled_back"})
        click.echo(json.dumps({"trial": trial, "hosts": hosts}))
    else:
        _print(view, group)
    if wait and record.policies != wanted:
        sys.exit(1)


def _print(view: FleetView, group: str) -> None:
    revision, record = view.groups.records[group]
    trial, states = record.trial, told(view, group)
    if trial is None:
        print_prose(f"Nothing is tried on hosts of the group {group}. Revision {revision}, by {printable(record.by, 600)}.", 2)
    else:
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(trial.ends))
        print_prose(f"{printable(trial.what)} is tried on {first_names(trial.on, _SHOWN)} until {until}.", 2)
        states = {host: states.get(host, TrialState(revision=revision)) for host in trial.on}
    headings = ("host", "state", "samples", "unhealthy", "killed", "samples before", "unhealthy", TableColumn("why", prose=True))
    shown = [(host, one) for host, one in states.items() if trial is not None or one.state is not None]
    if shown:
        print_table(headings, [(host, *_cells(one)) for host, one in shown])


def _cells(state: TrialState) -> tuple[str, ...]:
    now, before = state.canary, state.before
    counts = (now.samples, now.unhealthy, now.killed, before.samples, before.unhealthy)
    return str(state.state or "has not begun"), *map(str, counts), brief(state.reason or state.refused, 400)
