"""`mom fleet`: the commands of an operator of many hosts."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from mom_core import MomError, printable
from mom_daemon import as_caller, json_option, print_prose, print_text
from mom_plugins_fleet.buckets import ORDERS, STATES
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import Group, Member
from mom_plugins_fleet.verbs import server_setup
from mom_plugins_fleet.verbs.home import LOG, ROOT, FleetHome
from mom_plugins_fleet.verbs.join import join_command
from mom_plugins_fleet.verbs.keys import authorize_command, enroll_command, key_command, revoke_command
from mom_plugins_fleet.verbs.status import plan_command, status_command

REPLICAS: Final = 3
"""Number of servers that store each record, if there are so many: the fleet then survives the loss of a server."""


@click.group("fleet", short_help="Manage many hosts: policies, state, draining.", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    envvar="MOM_FLEET_HOME",
    default="/etc/mom/fleet",
    show_default=True,
    metavar="DIR",
    help="Folder with the servers' addresses and your key, which `mom fleet init` or `mom fleet key` has made.",
)
@click.pass_context
@as_caller
def fleet(context: click.Context, /, home: Path) -> None:
    """Manage many hosts: groups, policies and guests. All changes are records that operators sign and NATS servers store."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # the command reports errors itself
    context.obj = FleetHome(home.absolute())  # files made there refer to each other by absolute path


for other_verb in (enroll_command, join_command, plan_command, status_command, key_command, revoke_command, authorize_command):
    fleet.add_command(other_verb)


@fleet.command("init")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--no-start", is_flag=True, help="Make the files, but do not start the server.")
@click.pass_obj
def init_command(home: FleetHome, names: tuple[str, ...], no_start: bool) -> None:
    """Start a fleet: make its keys and certificates, and run a NATS server on this machine. Hosts reach it as NAME or NAME:PORT.

    Without NAME, or when repeated: create missing buckets on the servers. With the root key, also send all hosts' accounts to the servers:
    new servers need them.
    """
    unit = home.path / server_setup.UNIT
    if names:
        server_setup.make_server(home.path, names)
        why = "" if no_start else server_setup.systemd_does(f"enable --now {unit}")
        if no_start or why:
            print_prose(f"The server is not running yet{': ' if why else ''}{why}", 2)
            print_prose(f"Next: 1. run `nats-server -c {home.path}/nats.conf`, as {unit} would; 2. run `mom fleet init`", 2)
            return
    root = home.root() if (home.path / ROOT).exists() else None

    async def made(store: Store) -> list[str]:
        await store.make(REPLICAS if len(home.access.servers) >= REPLICAS else 1)
        if root is None:
            return []
        members = (await home.view(store)).members.records.items()
        return [root.host_account(name, each.group, each.key_issued, revision) for name, (revision, each) in members if each.key_issued]

    accounts = home.ask(made, patient=bool(names))
    if root is not None:
        home.give(root.fleet_account(), *accounts)
    print_prose("The fleet's buckets exist." + (f" The servers have the accounts of {len(accounts)} hosts." if accounts else ""), 2)
    if not accounts:
        print_prose("Next: `mom fleet enroll HOST --group GROUP` makes the file with which HOST joins.", 2)


@fleet.command("remove")
@click.argument("host")
@click.pass_obj
def remove_command(home: FleetHome, host: str) -> None:
    """Remove HOST from the fleet. The host keeps its policies and its guests."""
    root = home.root()

    async def removed(store: Store) -> int:
        entry = await home.change(store, Member, host, _marked(host, removed=True))
        for bucket in (STATES, ORDERS):
            await store.remove(bucket, host)
        return entry.revision

    home.give(root.ended(host, home.ask(removed)))
    print_prose(f"{host} is no longer in the fleet, and the servers refuse its key.", 2)


def _marked(host: str, **fields: bool) -> Callable[[Member | None], Mapping[str, object]]:
    def changed(before: Member | None) -> Mapping[str, object]:
        if before is None:
            raise MomError(f"the fleet has no host {printable(host)}", hint="`mom fleet status` lists the hosts")
        return fields

    return changed


@fleet.command("coordinator")
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write metrics of the fleet to FILE, such as mom-fleet.prom in the folder of node_exporter's textfile collector.",
)
@click.pass_obj
def coordinator_command(home: FleetHome, metrics: Path | None) -> None:
    """Choose destinations for guests of drained hosts, until SIGTERM. Several coordinators may run, one active, the others on standby."""
    from mom_plugins_fleet.coordinator.coordinator import Coordinator
    from mom_plugins_fleet.prometheus import write_metrics

    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    name = f"{socket.gethostname()} (process {os.getpid()})"
    coordinator = Coordinator(home.access, name, LOG, home.signer(), home.operators, home.revisions)

    async def work() -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)  # type: ignore[union-attr]  # asyncio.run makes a task
        await asyncio.gather(coordinator.run(), *([write_metrics(metrics, coordinator, LOG)] if metrics else []))

    with suppress(asyncio.CancelledError):
        asyncio.run(work())


def _flag(name: str, doc: str, said: str, **changes: bool) -> click.Command:
    @click.argument("host")
    @click.pass_obj
    def command(home: FleetHome, host: str) -> None:
        home.ask(lambda store: home.change(store, Member, host, _marked(host, **changes)))
        print_prose(f"{host} {said}", 2)

    command.__doc__ = doc
    return fleet.command(name)(command)


_flag("cordon", "Move no guests to HOST.", "accepts no more guests.", cordoned=True)
_flag(
    "uncordon",
    "Allow moves of guests to HOST again, and end a drain or balancing.",
    "accepts guests.",
    cordoned=False,
    draining=False,
    balance=False,
)
_flag(
    "drain",
    "Move all guests away from HOST. `mom fleet status` shows the progress, and `mom fleet uncordon` ends the drain.",
    "is being drained: `mom fleet status` shows its progress, and `mom fleet plan` why guests stay.",
    cordoned=True,
    draining=True,
)
_flag(
    "balance",
    "Move guests from HOST to less full hosts of its group: one guest per group in ten minutes. `mom fleet uncordon` ends this.",
    "may move guests to less full hosts of its group. `mom fleet plan` shows the next move.",
    balance=True,
)


@fleet.group("policy")
def policy_group() -> None:
    """Manage the policies of a group of hosts, and its service classes (classes.yaml)."""


@policy_group.command("show")
@click.argument("group")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def policy_show_command(home: FleetHome, group: str, name: str | None, as_json: bool) -> None:
    """Print the policies of GROUP, or the text of the policy NAME."""
    entry = home.ask(lambda store: home.standing(store, Group, group))
    revision, record, signer = (0, Group(), "nobody") if entry is None else (entry.revision, entry.record, entry.by)
    if as_json:
        click.echo(json.dumps({"revision": revision, **record.model_dump()}))
    elif name is None:
        for title in record.policies:
            print_prose(title, 2)
        print_prose(f"revision {revision}, signed by {signer}", 2)
    else:
        _check_name(record.policies, group, name)
        print_text(record.policies[name])


@policy_group.command("set")
@click.argument("group")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def policy_set_command(home: FleetHome, group: str, name: str, file: Any) -> None:
    """Set the policy NAME on all hosts of GROUP to the text in FILE (`-` is standard input). Hosts refuse a text with errors.

    classes.yaml as NAME sets service classes that take precedence over the hosts' own: a YAML file with `classes:`.
    """
    try:
        text = file.read(1 << 20).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MomError(f"{printable(file.name, 400)} is not valid UTF-8: byte {error.start}", hint="save it as UTF-8") from None
    _change(home, group, lambda before: {**before, name: text})


@policy_group.command("remove")
@click.argument("group")
@click.argument("name")
@click.pass_obj
def policy_remove_command(home: FleetHome, group: str, name: str) -> None:
    """Remove the policy NAME from GROUP. Without classes.yaml, hosts use their own service classes again."""

    def without(before: Mapping[str, str]) -> Mapping[str, str]:
        _check_name(before, group, name)
        return {title: text for title, text in before.items() if title != name}

    _change(home, group, without)


def _change(home: FleetHome, group: str, wanted: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
    def changed(before: Group | None) -> Mapping[str, object]:
        if before is None:
            print_prose(f"This is the first policy of the group {group}.", 2)
        return {"policies": wanted({} if before is None else before.policies)}

    revision = home.ask(lambda store: home.change(store, Group, group, changed)).revision
    print_prose(f"The group {group} is at revision {revision}. `mom fleet status` shows where this revision is in force.", 2)


def _check_name(policies: Mapping[str, str], group: str, name: str) -> None:
    if name not in policies:
        raise MomError(f"the group {printable(group)} has no policy {printable(name)}")
