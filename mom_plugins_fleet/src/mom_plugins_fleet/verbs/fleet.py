"""`mom fleet`: the commands of an operator of many hosts."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from mom_core import MomError, printable
from mom_daemon import as_caller, print_prose
from mom_plugins_fleet.invitation import Token
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import MOST_REMOVED, AuthorizedKeys, Member
from mom_plugins_fleet.subjects import COORDINATORS, ORDERS, ROSTER, STATES
from mom_plugins_fleet.verbs import server_setup
from mom_plugins_fleet.verbs.changes import change, named, standing
from mom_plugins_fleet.verbs.enroll import enroll_command
from mom_plugins_fleet.verbs.groups import policy_group
from mom_plugins_fleet.verbs.keys import authorize_command, countersign_command, key_command, revoke_command
from mom_plugins_fleet.verbs.plan import plan_command
from mom_plugins_fleet.verbs.status import status_command
from mom_plugins_fleet.verbs.where import LOG, Where


@click.group("fleet", short_help="Manage many hosts: policies, state, draining.", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--server", "servers", multiple=True, envvar="MOM_FLEET_SERVERS", metavar="URL", help="A NATS server; may be repeated.")
@click.option("--key", envvar="MOM_FLEET_KEY", metavar="FILE", help="The operator's key.")
@click.option("--ca", envvar="MOM_FLEET_CA", metavar="FILE", help="CA file for the servers' certificates (PEM).")
@click.option(
    "--operator",
    "named",
    multiple=True,
    envvar="MOM_FLEET_OPERATORS",
    metavar="KEY",
    help="Public key of another operator to trust; may be repeated.",
)
@click.option(
    "--root",
    "root_file",
    type=click.Path(path_type=Path),
    envvar="MOM_FLEET_ROOT",
    metavar="FILE",
    help="The fleet's root key, which admits hosts and operators.",
)
@click.option(
    "--anew",
    is_flag=True,
    help="Accept that the servers lack records, or have outdated ones. Use this if another operator removed records, the servers are new,"
    " or the servers were restored from a backup.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    envvar="MOM_FLEET_HOME",
    default="/etc/mom/fleet",
    show_default=True,
    metavar="DIR",
    help="Folder that `mom fleet init` has made, for use without --server.",
)
@click.option("-c", "--config", envvar="MOM_CONFIG", metavar="FILE", help="Configuration whose fleet plugin names the servers.")
@click.pass_context
@as_caller
def fleet(context: click.Context, /, **options: Any) -> None:
    """Manage many hosts: groups, policies and guests. All changes are records that operators sign and NATS servers store."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # the command reports errors itself
    context.obj = Where(**options)


_KEY_VERBS = (key_command, revoke_command, authorize_command, countersign_command)
for other_verb in (enroll_command, plan_command, status_command, policy_group, *_KEY_VERBS):
    fleet.add_command(other_verb)


@fleet.command("top")
@click.pass_obj
def top_command(where: Where) -> None:
    """Watch all hosts in the terminal: memory, guests and policies, hosts with problems first. `?` shows the keys.

    `mom fleet status` prints the same once.
    """
    from mom_plugins_fleet.verbs.top import watch_fleet  # other subcommands need no screen

    watch_fleet(where)


@fleet.command("init")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--replicas", type=click.IntRange(1, 5), default=1, show_default=True, help="Number of servers that store each record.")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=server_setup.STORE,
    show_default=True,
    metavar="DIR",
    help="Folder where this machine's server stores the records.",
)
@click.option("--no-start", is_flag=True, help="Make the files, but do not start the server.")
@click.pass_obj
def init_command(where: Where, names: tuple[str, ...], replicas: int, store: Path, no_start: bool) -> None:
    """Start a fleet: make its keys and certificates, and run a NATS server on this machine. Hosts reach it as NAME or NAME:PORT.

    Without NAME, or when repeated: create missing buckets on the servers. With the root key, also send all hosts' accounts to the servers:
    new servers need them.
    """
    unit = where.home / server_setup.UNIT
    if names:
        server_setup.make_server(where.home, names, store.absolute())
        where.look_at_home()
        why = "" if no_start else server_setup.systemd_does(f"enable --now {unit}")
        if no_start or why:
            print_prose(f"The server is not running yet{': ' if why else ''}{why}", 2)
            print_prose(f"Next: 1. run `nats-server -c {where.home}/nats.conf`, as {unit} would; 2. run `mom fleet init`", 2)
            return

    async def made(store: Store) -> list[str]:
        await store.make(replicas)
        if not where.root_file:
            return []
        members = (await where.view(store)).members.records.items()
        root = where.root()
        return [root.host_account(name, each.group, each.key_issued, revision) for name, (revision, each) in members if each.key_issued]

    accounts = where.ask(made, patient=bool(names))
    if where.root_file:
        where.give(where.root().fleet_account(), *accounts)
    print_prose("The fleet's buckets exist." + (f" The servers have the accounts of {len(accounts)} hosts." if accounts else ""), 2)
    if not accounts:
        print_prose("Next: `mom fleet enroll HOST --group GROUP --token` prints the command with which HOST joins.", 2)


@fleet.command("join")
@click.argument("address")
@click.argument("token")
@click.option("--no-restart", is_flag=True, help="Do not restart mom.")
@click.pass_obj
def join_command(where: Where, address: str, token: str, no_restart: bool) -> None:
    """Make this host a member of the fleet whose server is at ADDRESS. `mom fleet enroll --token` prints the TOKEN.

    The token works once. The server's certificate must match it. The command writes this host's key and the fleet's CA certificate to the
    configuration's folder, and adds a section `fleet:`. If mom.service is running with this configuration, the command restarts it.
    """
    from mom_plugins_fleet.host.membership import DEFAULT_CONFIG, join

    config, invited = Path(where.config or DEFAULT_CONFIG).absolute(), Token.parse(token)
    join(config, address, invited)
    print_prose(
        f"{invited.host} is a member of the fleet; its settings are in {config}. `mom doctor` checks whether the servers answer.", 2
    )
    if config != DEFAULT_CONFIG:
        print_prose(f"Now reload the mom that uses {config}.", 2)
        return
    why = "--no-restart was given" if no_restart else server_setup.systemd_does("daemon-reload", "try-restart mom")
    if why:
        print_prose(f"mom was not restarted ({why}). Run `systemctl daemon-reload && systemctl restart mom`.", 2)


@fleet.command("remove")
@click.argument("host")
@click.pass_obj
def remove_command(where: Where, host: str) -> None:
    """Remove HOST from the fleet. The host keeps its policies and its guests."""

    entry = where.ask(lambda store: standing(where, store, Member, named(host)))
    if entry is not None and entry.record.key_issued:
        where.give(where.root().ended(host, entry.revision))

    def without(before: AuthorizedKeys | None, last: int) -> Mapping[str, object]:
        removed = {**(before.removed if before else {}), host: last}
        return {"removed": dict(sorted(removed.items(), key=lambda each: each[1])[-MOST_REMOVED:])}

    async def removed(store: Store) -> None:
        left = [bucket for bucket in (STATES, ORDERS) if (await store.read(bucket, host)).data is not None]
        if entry is not None:
            last = entry.revision  # the signed entry stays valid; without this record, a copy of it could attract guests
            await change(where, store, AuthorizedKeys, COORDINATORS, lambda before: without(before, last))
            await store.remove(ROSTER, host)
            where.revisions.removed(ROSTER, host, entry.by, where.operators())
        elif not left:  # else an earlier removal was interrupted
            raise MomError(f"the fleet has no host {printable(host)}")
        for bucket in left:
            await store.remove(bucket, host)

    where.ask(removed)
    print_prose(f"{host} is no longer in the fleet, and the servers refuse its key.", 2)


@fleet.command("coordinator")
@click.option("--name", default=socket.gethostname, help="Name of this coordinator in `mom fleet status`.  [default: the host's name]")
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write metrics of the fleet to FILE, such as mom-fleet.prom in the folder of node_exporter's textfile collector.",
)
@click.pass_obj
def coordinator_command(where: Where, name: str, metrics: Path | None) -> None:
    """Choose destinations for guests of drained hosts, until SIGTERM. Several coordinators may run, one active, the others on standby."""
    from mom_plugins_fleet.coordinator.coordinator import Coordinator
    from mom_plugins_fleet.prometheus import write_metrics

    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    access, signer = where.access(), where.signer()
    # An authorization by this key itself would not count on any host.
    operators = where.named_operators() or where.operators()

    async def work() -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)  # type: ignore[union-attr]  # asyncio.run makes a task
        coordinator = Coordinator(
            access, f"{name} (process {os.getpid()})", LOG, signer, operators, where.revisions_as("fleet-coordinator")
        )
        await asyncio.gather(coordinator.run(), *([write_metrics(metrics, coordinator, LOG)] if metrics else []))

    with suppress(asyncio.CancelledError):
        asyncio.run(work())


@fleet.command("targets")
@click.pass_obj
def targets_command(where: Where) -> None:
    """Print the addresses of all hosts' metrics as a file for Prometheus. Hosts without metrics are listed on standard error."""
    from mom_plugins_fleet.prometheus import WHY, targets

    groups = targets(where.ask(where.view))
    click.echo(json.dumps(groups))
    for labels in (group["labels"] for group in groups):
        if WHY in labels:
            print_prose(f"{printable(labels['host'])}: {labels[WHY]}", 2, err=True)


def _flag(name: str, doc: str, said: str, **changes: bool) -> click.Command:
    @click.argument("host")
    @click.pass_obj
    def command(where: Where, host: str) -> None:
        _mark(where, host, said, **changes)

    command.__doc__ = doc
    return fleet.command(name)(command)


def _mark(where: Where, host: str, said: str, **changes: bool) -> None:
    def changed(before: Member | None) -> Mapping[str, object]:
        if before is None:
            raise MomError(f"the fleet has no host {printable(host)}", hint="`mom fleet status` lists the hosts")
        return changes

    where.ask(lambda store: change(where, store, Member, host, changed))
    print_prose(f"{host} {said}", 2)


_flag("cordon", "Move no guests to HOST.", "accepts no more guests.", cordoned=True)
_flag("uncordon", "Allow moves of guests to HOST again, and end a drain.", "accepts guests.", cordoned=False, draining=False)
_flag(
    "drain",
    "Move all guests away from HOST. `mom fleet status` shows the progress, and `mom fleet uncordon` ends the drain.",
    "is being drained: `mom fleet status` shows its progress.",
    cordoned=True,
    draining=True,
)


@fleet.command("balance")
@click.argument("host")
@click.option("--off", is_flag=True, help="Stop balancing: guests stay on HOST.")
@click.pass_obj
def balance_command(where: Where, host: str, off: bool) -> None:
    """Move guests from HOST to less full hosts of its group: one guest per group in ten minutes. `mom fleet plan` shows the next move."""
    _mark(where, host, "keeps its guests." if off else "may move guests to less full hosts of its group.", balance=not off)


_LONGEST_LINE = 2000


class _Lines(logging.Formatter):
    # Host names may contain control characters.

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(printable(line, _LONGEST_LINE) for line in super().format(record).split("\n"))
