"""`mom fleet`: what an operator of many hosts types."""

from __future__ import annotations

import asyncio
import getpass
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from difflib import unified_diff
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from pydantic import BaseModel, ConfigDict

from mom_cli import TableColumn, print_table
from mom_core import (
    ConfigError,
    MomError,
    brief,
    format_kib,
    json_option,
    load_config,
    parse_size,
    print_prose,
    print_text,
    printable,
    printable_lines,
    read_settings,
)
from mom_plugins_fleet.accounts import USER, FleetRoot, host_credentials, new_seed, write_secret
from mom_plugins_fleet.followed import AHEAD_SECONDS
from mom_plugins_fleet.link import ConflictError, Store
from mom_plugins_fleet.plan_verb import plan_command
from mom_plugins_fleet.records import FLEET_POLICY, NAME, Appointments, FleetRecord, Group, HostState, Lease, Member, read
from mom_plugins_fleet.report_verb import report_command
from mom_plugins_fleet.signatures import Opened, Signer, next_revision, opened
from mom_plugins_fleet.subjects import (
    APPOINTMENTS,
    COORDINATOR,
    COORDINATORS,
    GROUPS,
    LEASES,
    ORDERS,
    PROGRESS,
    ROSTER,
    STATES,
)
from mom_plugins_fleet.view import Bucket, FleetView
from mom_plugins_fleet.where import Where, checked_key
from mom_toolkit import Address, Destination

if TYPE_CHECKING:
    from mom_plugins_fleet.fleet_server import GuardedAddress

Function = TypeVar("Function", bound=Callable[..., Any])
Kind = TypeVar("Kind", bound=FleetRecord)

_LOG: Final = logging.getLogger("mom.fleet")
_ATTEMPTS: Final = 20
"""How often a change is tried again when another client was faster."""


@click.group("fleet", short_help="Many hosts: policies, state, draining.", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--server", "servers", multiple=True, envvar="MOM_FLEET_SERVERS", metavar="URL", help="A NATS server; may be repeated.")
@click.option("--key", envvar="MOM_FLEET_KEY", metavar="FILE", help="The operator's key.")
@click.option("--ca", envvar="MOM_FLEET_CA", metavar="FILE", help="What the servers' certificates are checked with, as PEM.")
@click.option(
    "--operator",
    "operators",
    multiple=True,
    envvar="MOM_FLEET_OPERATORS",
    metavar="KEY",
    help="Another operator's public key: to be believed.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    envvar="MOM_FLEET_ROOT",
    metavar="FILE",
    help="The fleet's root key, by which hosts and operators are let in.",
)
@click.option(
    "--anew", is_flag=True, help="What the servers do not have is gone: another operator has removed it, or they were set up anew."
)
@click.option(
    "-c", "--config", envvar="MOM_CONFIG", metavar="FILE", help="The configuration whose plugin fleet says where the servers are."
)
@click.pass_context
def fleet(
    context: click.Context,
    servers: tuple[str, ...],
    key: str | None,
    ca: str | None,
    operators: tuple[str, ...],
    root: Path | None,
    anew: bool,
    config: str | None,
) -> None:
    """Look after many hosts: their groups, policies and guests. What operators have signed, and stands in the fleet's servers, is what
    counts."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # what is wrong is said by the command itself
    context.obj = Where(servers, key, ca, config, operators, root, anew=anew)


fleet.add_command(plan_command)
fleet.add_command(report_command)


# --- the fleet itself ------------------------------------------------------------------------------------------------------------------


@fleet.command("init")
@click.option("--replicas", type=click.IntRange(1, 5), default=1, show_default=True, help="On how many servers everything is kept.")
@click.pass_obj
def init_command(where: Where, replicas: int) -> None:
    """Make the fleet's buckets in the servers, where they are missing."""
    where.ask(lambda store: store.make(replicas))
    print_prose("The fleet's buckets are there.", 2)


@fleet.command("root")
@click.argument("file", type=click.Path(path_type=Path))
def root_command(file: Path) -> None:
    """Make the fleet's root key in FILE. Who has it can let in any host and any operator: keep it apart, and a copy of it."""
    FleetRoot.make(file)
    print_prose(f"{file} is the fleet's root key. `mom fleet --root {file} server-config` prints what the servers need.", 2)


@fleet.command("key")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def key_command(where: Where, file: Path) -> None:
    """Make a key of an operator or a coordinator in FILE, and print its public part. With --root, also the one with which it connects."""
    seed = new_seed(USER)
    public = Signer(seed).public
    connects = where.root().operator(public, file.stem) if where.has_root else None
    write_secret(file, "\n".join([seed, *([connects.seed, connects.jwt] if connects else [])]).encode())
    click.echo(public)


@fleet.command("revoke")
@click.argument("key")
@click.pass_obj
def revoke_command(where: Where, key: str) -> None:
    """Have the servers let an operator or a coordinator with the public KEY in no more, at once."""
    root = where.root()
    root.revoke(checked_key(key))
    where.give(root.fleet_account())
    print_prose(
        "The servers let it in no more. For their next start, put `mom fleet server-config` in their configuration; and take the key out of"
        " `operators` of all hosts: what it has signed counts there until then.",
        2,
    )


@fleet.command("enroll")
@click.argument("host")
@click.option("--group", required=True, help="The group whose policies it follows.")
@click.option("--address", metavar="URI", help="Where other hosts reach this one's hypervisor, such as qemu+tls://HOST/system.")
@click.option("--memory", metavar="SIZE", help="What it has, such as 256GiB: guests come to it for no more than that, whatever it tells.")
@click.option("--metrics-host", metavar="NAME", help="What Prometheus calls this host, where that is not the host in the address.")
@click.option("--new-key", "key_file", type=click.Path(path_type=Path), help="Make the host's key in this file, to be brought to it.")
@click.pass_obj
def enroll_command(
    where: Where, host: str, group: str, address: str | None, memory: str | None, metrics_host: str | None, key_file: Path | None
) -> None:
    """Let HOST in, or change its group, address, memory or key."""
    reached = None if address is None else Destination.parse(address)
    has = None if memory is None else parse_size(memory) // 1024
    named(host)
    named(group)
    if key_file is not None and key_file.exists():
        raise MomError(f"{key_file} is there already", hint="name a file that is not there yet")
    known = where.ask(lambda store: _standing(store, where, ROSTER, Member, host))
    before = None if known is None else known.record
    account, key = (before.account, before.key) if before else ("", "")
    credentials = None
    if key_file is not None:
        account, key, credentials = host_credentials(host)
    if account and (before is None or credentials is not None or before.group != group):
        # Before the host hears of it: then it may read what it is told to.
        old = "" if before is None or before.account == account else before.account
        revision = next_revision(0 if known is None else known.revision)
        where.give(where.root().host_account(account, host, group, revision), take=old)
    if key_file is not None and credentials is not None:
        write_secret(key_file, f"{credentials.seed}\n{credentials.jwt}".encode())

    def enrolled(before: Member | None) -> Member:
        changes: dict[str, object] = {"group": group, "by": _who(), "key": key, "account": account}
        given = {"address": reached, "memory": has, "metrics_host": metrics_host}
        changes |= {name: value for name, value in given.items() if value is not None}
        return _checked(Member, {**(before.model_dump() if before else {}), **changes})

    async def put(store: Store) -> None:
        await _change(store, where, ROSTER, Member, host, enrolled)
        if (await store.read(GROUPS, group)).data is None:  # so that what the group has can be told from what a server does not tell
            await _group(store, where, group, lambda _: {})

    where.ask(put)
    print_prose(f"{host} is in the group {group}." + (f" Bring {key_file} to it." if key_file else ""), 2)


@fleet.command("remove")
@click.argument("host")
@click.pass_obj
def remove_command(where: Where, host: str) -> None:
    """Take HOST out of the fleet. It keeps the policies that it has, and its guests."""

    known = where.ask(lambda store: _standing(store, where, ROSTER, Member, named(host)))
    if known is None:
        raise MomError(f"the fleet has no host {printable(host)}")
    if known.record.account:
        where.give(take=known.record.account)

    async def removed(store: Store) -> None:
        for bucket in (ROSTER, STATES, ORDERS, PROGRESS):
            await store.remove(bucket, host)
        where.followed.removed(ROSTER, host, known.by, where.operators())

    where.ask(removed)
    print_prose(f"{host} is not in the fleet any more, and the servers do not let it in.", 2)


@fleet.command("server-config")
@click.option("--accounts", default="/var/lib/nats/accounts", show_default=True, help="Where a server keeps the accounts that it is given.")
@click.pass_obj
def server_config_command(where: Where, accounts: str) -> None:
    """Print what the NATS servers' configuration needs to know the fleet's root key. Hosts come and go without it."""
    click.echo(where.root().server_config(accounts), nl=False)


@fleet.command("accounts")
@click.pass_obj
def accounts_command(where: Where) -> None:
    """Give the accounts of all hosts to the servers, such as new ones, which have none."""
    root = where.root()

    async def looked(store: Store) -> list[str]:
        members = (await where.view(store)).members.records.items()
        return [root.host_account(one.account, name, one.group, revision) for name, (revision, one) in members if one.account]

    accounts = where.ask(looked)
    where.give(root.fleet_account(), *accounts)
    print_prose(f"The servers have the accounts of {len(accounts)} hosts.", 2)


@fleet.command("coordinator")
@click.option("--name", default=socket.gethostname, help="Who this is, for `mom fleet status`.  [default: the host's name]")
@click.option("--listen", metavar="HOST:PORT", help="Tell Prometheus there where all hosts' metrics are.")
@click.option("--read-token", type=click.Path(path_type=Path), metavar="FILE", help="The token that Prometheus must show there.")
@click.option("--certificate", type=click.Path(path_type=Path), metavar="FILE", help="The certificate with which that is served, as PEM.")
@click.option("--certificate-key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key, as PEM.")
@click.pass_obj
def coordinator_command(
    where: Where, name: str, listen: str | None, read_token: Path | None, certificate: Path | None, certificate_key: Path | None
) -> None:
    """Say where guests of drained hosts go, until SIGTERM. Several may run: one works, the others wait to take over."""
    from mom_plugins_fleet.coordinator import Coordinator
    from mom_plugins_fleet.fleet_server import AnswerBody, serving
    from mom_plugins_fleet.targets import discovery, host_targets, metrics

    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    access, signer, operators = where.access(), where.signer(), where.operators()
    place = _guarded_address(listen, read_token, certificate, certificate_key)

    async def work() -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)  # type: ignore[union-attr]  # asyncio.run makes a task
        one = Coordinator(access, f"{name} (process {os.getpid()})", _LOG, signer, operators, where.followed_as("fleet-coordinated"))
        view = one.view
        answers = {
            "/v1/fleet/targets": lambda: AnswerBody(discovery(host_targets(view)) if view.known else None, "application/json"),
            "/metrics": lambda: AnswerBody(metrics(view, works=one.works) if view.known else None),
        }
        async with nullcontext() if place is None else serving(place, answers, _LOG):
            await one.run()

    with suppress(asyncio.CancelledError):
        asyncio.run(work())


def _guarded_address(listen: str | None, token: Path | None, certificate: Path | None, key: Path | None) -> GuardedAddress | None:
    """Where a coordinator listens; None: nowhere. Raises `MomError`."""
    from mom_plugins_fleet.fleet_server import GuardedAddress

    if listen is None:
        if token or certificate or key:
            raise MomError("it is not said where to listen", hint="add --listen HOST:PORT")
        return None
    try:
        address = Address.parse(listen)
    except ValueError as error:
        raise MomError(f"--listen {printable(listen)}: {error}") from None
    if token is None:
        raise MomError("it is not said who may ask there", hint="add --read-token FILE; make one: openssl rand -hex 32 > FILE")
    return GuardedAddress(address, token, certificate, key)


@fleet.command("targets")
@click.pass_obj
def targets_command(where: Where) -> None:
    """Print where the metrics of all hosts are, in the form that Prometheus reads files in. Hosts without are named on standard error."""
    from mom_plugins_fleet.targets import discovery, host_targets

    found = list(host_targets(where.ask(where.view)))
    click.echo(discovery(found))
    for one in found:
        if one.why:
            print_prose(f"{printable(one.host)}: {one.why}", 2, err=True)


@fleet.command("appoint")
@click.argument("key")
@click.option("--remove", is_flag=True, help="Its orders are not followed any more.")
@click.pass_obj
def appoint_command(where: Where, key: str, remove: bool) -> None:
    """Have all hosts follow the orders of the coordinator with the public KEY. An operator's own key needs that not."""
    checked_key(key)

    def changed(before: Appointments | None) -> Appointments:
        others = [one for one in (() if before is None else before.keys) if one != key]
        return _checked(Appointments, {"keys": tuple(others if remove else [*others, key]), "by": _who()})

    where.ask(lambda store: _change(store, where, APPOINTMENTS, Appointments, COORDINATORS, changed))
    print_prose(f"Hosts follow its orders{' no more' if remove else ''}.", 2)


@fleet.command("adopt")
@click.argument("key")
@click.pass_obj
def adopt_command(where: Where, key: str) -> None:
    """Sign with your key what an operator with the public KEY has signed, before that key is revoked on the hosts. All of it is shown, and
    at a terminal asked about: a thief of that key, or a server to which an earlier mom has connected with it, may have made it."""
    checked_key(key)

    async def signed(store: Store) -> int:
        signer, count, trusted = where.signer(), 0, where.operators() - {key}
        for bucket, kind in ((ROSTER, Member), (GROUPS, Group), (APPOINTMENTS, Appointments)):
            for name, kept in (await store.load(bucket)).items():
                try:
                    found = None if kept.data is None else opened(kind, bucket, name, kept.data, {key}, earlier=True)
                except MomError:
                    continue  # it is another operator's
                if found is not None:
                    confirm(f"{bucket} {name}", None, found.record, surely=False)
                    known = where.followed.newest(bucket, name, trusted | {key})
                    before = found.revision if found.revision < next_revision(0) + AHEAD_SECONDS else 0
                    data = signer.signed(bucket, name, found.record, next_revision(max(known, before)))
                    await store.put(bucket, name, data, kept.revision)
                    where.followed.open(kind, bucket, name, data, {signer.public})
                    count += 1
        return count

    print_prose(f"{where.ask(signed)} records are signed with your key now.", 2)


# --- hosts -------------------------------------------------------------------------------------------------------------------------------


def _flag(name: str, doc: str, said: str, **changes: bool) -> click.Command:
    @click.argument("host")
    @click.pass_obj
    def command(where: Where, host: str) -> None:
        _mark(where, host, said, **changes)

    command.__doc__ = doc
    return fleet.command(name)(command)


def _mark(where: Where, host: str, said: str, **changes: bool) -> None:
    def changed(before: Member | None) -> Member:
        if before is None:
            raise MomError(f"the fleet has no host {printable(host)}", hint="`mom fleet status` shows those that it has")
        return before.model_copy(update={**changes, "by": _who()})

    where.ask(lambda store: _change(store, where, ROSTER, Member, host, changed))
    print_prose(f"{host} {said}", 2)


_flag("cordon", "Move nothing to HOST.", "takes no guests any more.", cordoned=True)
_flag("uncordon", "Let guests come to HOST again, and stay there.", "takes guests.", cordoned=False, draining=False)
_flag(
    "drain",
    "Move all guests away from HOST. `mom fleet status` shows how far that is, and `mom fleet uncordon` ends it.",
    "is drained: `mom fleet status` shows how far that is.",
    cordoned=True,
    draining=True,
)


@fleet.command("balance")
@click.argument("host")
@click.option("--off", is_flag=True, help="They stay again.")
@click.pass_obj
def balance_command(where: Where, host: str, off: bool) -> None:
    """Let guests leave HOST for hosts of its group that are less full: one of a group in ten minutes. `mom fleet plan` shows which."""
    _mark(where, host, "keeps its guests." if off else "loses guests to hosts of its group that are less full.", balance=not off)


@fleet.command("status")
@json_option
@click.pass_obj
def status_command(where: Where, as_json: bool) -> None:
    """Show all hosts: how they are, which policies are in force there, and what moves."""

    async def looked(store: Store) -> tuple[FleetView, dict[str, int], str, Mapping[str, float]]:
        view = await where.view(store)
        groups = Bucket(Group, GROUPS, view.operators, view.followed)
        for key, kept in (await store.load(GROUPS)).items():
            groups.take(key, kept)
        revisions = {key: revision for key, (revision, _) in groups.records.items()}
        lease = await store.read(LEASES, COORDINATOR)
        return view, revisions, _holder(lease.data), view.ages(lease)

    view, revisions, holder, ages = where.ask(looked)
    hosts = [host_row(view, name, revisions, ages.get(name)) for name in sorted(view.members.records)]
    unsigned = dict(sorted(view.members.damaged.items()))
    strangers = sorted(view.states.records.keys() - view.members.records.keys() - unsigned.keys())
    if as_json:
        click.echo(json.dumps({"coordinator": holder or None, "hosts": hosts, "strangers": strangers, "unsigned": unsigned}))
        return
    print_prose(f"coordinator: {printable(holder) if holder else 'none works now: nothing is moved'}", 2)
    print_hosts(hosts)
    for name, why in unsigned.items():
        print_prose(f"{printable(name)} is not believed to be in the fleet: {printable(why, 400)}", 2)
    for name in strangers:
        print_prose(f"{printable(name)} tells how it is, and is not in the fleet: ignored", 2)


def _holder(lease: bytes | None) -> str:
    try:
        return "" if lease is None else read(Lease, lease).holder
    except MomError:
        return "a coordinator whose lease cannot be read"


def host_row(view: FleetView, name: str, revisions: Mapping[str, int], age: float | None) -> dict[str, Any]:
    """What is told of one host.

    :param revisions: the newest of each group
    :param age: of its state, in seconds
    """
    member, state, orders = view.members.get(name), view.states.get(name), view.ordered(name)
    moves = [] if orders is None else [{"guest": m.name, "to": m.to, "state": str(m.state), "error": m.error} for m in orders.moves]
    wanted = 0 if member is None else revisions.get(member.group, 0)
    return {
        "host": name,
        "group": "" if member is None else member.group,
        "cordoned": member is not None and member.cordoned,
        "draining": member is not None and member.draining,
        "balance": member is not None and member.balance,
        "age_s": age,
        "mode": None if state is None else state.mode,
        "total_kib": None if state is None else state.total,
        "available_kib": None if state is None else state.available,
        "memory_state": None if state is None else state.memory_state,
        "guests": None if state is None else len(state.guests) + state.others,
        "problems": None if state is None else state.problems,
        "policies": _policies(state, wanted),
        "refused": "" if state is None else state.refused,
        "classes_unused": "" if state is None else state.classes_unused,
        "moves": moves,
        "stay": [] if state is None or member is None or not member.draining else [[g.name, g.stays] for g in state.guests if g.stays],
    }


def _policies(state: HostState | None, wanted: int) -> str:
    if state is None:
        return "unknown"
    if state.refused:
        return "refused"
    return "newest" if state.group_revision == wanted else f"revision {state.group_revision} of {wanted}"


def print_hosts(hosts: list[dict[str, Any]]) -> None:
    """Say it."""
    rows = []
    for row in hosts:
        marks = ("draining" if row["draining"] else "cordoned" if row["cordoned"] else "", "balance" if row["balance"] else "")
        notes = [word for word in (*marks, row["memory_state"] or "") if word]
        if row["mode"] not in (None, "enforce"):
            notes.append(str(row["mode"]))
        if row["problems"]:
            notes.append(f"{row['problems']} problems")
        of = "" if row["total_kib"] is None else f" of {format_kib(row['total_kib'])}"
        available = "?" if row["available_kib"] is None else f"{format_kib(row['available_kib'])}{of}"
        heard = "never" if row["age_s"] is None else f"{row['age_s']:.0f} s ago"
        guests = "?" if row["guests"] is None else str(row["guests"])
        cells = (row["host"], row["group"], heard, available, guests, row["policies"], ", ".join(notes))
        rows.append([brief(cell, 80) for cell in cells])
    remarks = TableColumn("remarks", prose=True)
    print_table(
        (
            "host",
            TableColumn("group", 2),
            TableColumn("heard", 1),
            "available",
            TableColumn("guests", 3),
            TableColumn("policies", 1),
            remarks,
        ),
        rows,
    )
    for row in hosts:
        host = brief(row["host"], 80)
        if row["refused"]:
            print_prose(f"{host} refuses its group's policies: {brief(row['refused'], 400)}", 4)
        if row["classes_unused"]:
            print_prose(f"{host} does not use its group's classes: {brief(row['classes_unused'], 400)}", 4)
        for move in row["moves"]:
            error = f": {brief(move['error'], 200)}" if move["error"] else ""
            print_prose(f"{host}: {brief(move['guest'], 80)} -> {brief(move['to'], 80)}  {move['state']}{error}", 4)
        for name, why in row["stay"]:
            print_prose(f"{host}: {brief(name, 80)} stays: {brief(why, 200)}", 4)


# --- groups ------------------------------------------------------------------------------------------------------------------------------


@fleet.group("policy")
def policy_group() -> None:
    """The policies of a group of hosts."""


@policy_group.command("show")
@click.argument("group")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def policy_show_command(where: Where, group: str, name: str | None, as_json: bool) -> None:
    """Print the policies of GROUP, or the text of one."""

    async def looked(store: Store) -> tuple[int, Group]:
        found = await _standing(store, where, GROUPS, Group, named(group))
        return (0, Group()) if found is None else (found.revision, found.record)

    revision, record = where.ask(looked)
    if as_json:
        click.echo(json.dumps({"revision": revision, **record.model_dump()}))
    elif name is None:
        for one in record.texts():
            print_prose(one, 2)
        print_prose(f"revision {revision}, by {printable(record.by) or 'no operator'}", 2)
    elif name in record.texts():
        print_text(record.texts()[name])
    else:
        raise MomError(f"the group {printable(group)} has no policy {printable(name)}")


@policy_group.command("set")
@click.argument("group")
@click.argument("name")
@click.argument("file", type=click.File("rb"))
@click.pass_obj
def policy_set_command(where: Where, group: str, name: str, file: Any) -> None:
    """Set the policy NAME of GROUP to the text in FILE (-: standard input), on all its hosts, or on none where it cannot be right."""
    try:
        text = file.read(1 << 20).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MomError(f"{printable(file.name)} is no text in UTF-8: byte {error.start}", hint="save it as UTF-8") from None
    if not FLEET_POLICY.match(name):
        raise MomError(f"{printable(name)} is no name of a fleet's policy", hint="call it NN_fleet_NAME, such as 60_fleet_night")
    revision = where.ask(lambda store: _group(store, where, group, lambda before: {"policies": {**before.policies, name: text}}))
    print_prose(f"The group {group} is at revision {revision}. `mom fleet status` shows where it is in force.", 2)


@policy_group.command("remove")
@click.argument("group")
@click.argument("name")
@click.pass_obj
def policy_remove_command(where: Where, group: str, name: str) -> None:
    """Remove the policy NAME from GROUP."""

    def removed(before: Group) -> dict[str, object]:
        if name not in before.policies:
            raise MomError(f"the group {printable(group)} has no policy {printable(name)}")
        return {"policies": {one: text for one, text in before.policies.items() if one != name}}

    print_prose(f"The group {group} is at revision {where.ask(lambda store: _group(store, where, group, removed))}.", 2)


@fleet.group("classes")
def classes_group() -> None:
    """The service classes of a group of hosts."""


@classes_group.command("show")
@click.argument("group")
@click.pass_obj
def classes_show_command(where: Where, group: str) -> None:
    """Print the classes of GROUP, as they were set."""

    async def looked(store: Store) -> str:
        found = await _standing(store, where, GROUPS, Group, named(group))
        return "" if found is None else found.record.classes

    text = where.ask(looked)
    print_text(text or f"# The group {printable(group)} has no classes: each of its hosts has its own.\n")


@classes_group.command("set")
@click.argument("group")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def classes_set_command(where: Where, group: str, file: Path) -> None:
    """Let the hosts of GROUP have the classes in FILE, a YAML file with `classes:`, before their own."""
    text = checked_classes(file)
    revision = where.ask(lambda store: _group(store, where, group, lambda _: {"classes": text}))
    print_prose(f"The group {group} is at revision {revision}. `mom fleet status` shows where it is in force.", 2)


@classes_group.command("remove")
@click.argument("group")
@click.pass_obj
def classes_remove_command(where: Where, group: str) -> None:
    """Leave the hosts of GROUP to their own classes."""

    def removed(before: Group) -> dict[str, object]:
        if not before.classes:
            raise MomError(f"the group {printable(group)} has no classes")
        return {"classes": ""}

    print_prose(f"The group {group} is at revision {where.ask(lambda store: _group(store, where, group, removed))}.", 2)


@fleet.command("parameter", context_settings={"ignore_unknown_options": True})  # else a negative number is an option
@click.argument("group")
@click.argument("name")
@click.argument("value", required=False, type=float)
@click.pass_obj
def parameter_command(where: Where, group: str, name: str, value: float | None) -> None:
    """Set the parameter NAME of GROUP's policies to VALUE; without VALUE, leave it to the policies' own default again."""

    def changed(before: Group) -> dict[str, object]:
        if value is None and name not in before.parameters:
            raise MomError(f"the group {printable(group)} has no parameter {printable(name)}", hint="`mom fleet policy show` shows them")
        others = {one: number for one, number in before.parameters.items() if one != name}
        return {"parameters": others if value is None else {**others, name: value}}

    print_prose(f"The group {group} is at revision {where.ask(lambda store: _group(store, where, group, changed))}.", 2)


def confirm(what: str, before: FleetRecord | None, after: FleetRecord, *, surely: bool) -> None:
    """Show what is about to be signed: what is changed of a record that was seen here, or all of it. A person at a terminal is asked about
    that before, as another one, or a server, has said what it is. Raises `MomError`.

    :param surely: nothing stood there before
    """
    lines = [line for line in [*unified_diff(_told(before), _told(after), n=0, lineterm="")][2:] if not line.startswith("@@")]
    click.echo("\n".join([f"{what}:", *(f"  {line[0]} {printable(line[1:], 2000)}" for line in lines)]), err=True)
    if before is None and not surely and sys.stdin.isatty() and not click.confirm("It was not seen here so before. Sign it?", err=True):
        raise MomError("nothing was signed")


def _told(value: object, name: str = "") -> list[str]:
    """Line by line."""
    if isinstance(value, FleetRecord):
        value = value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, Mapping):
        return [line for key, inner in value.items() for line in _told(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [line for inner in value for line in _told(inner, name)]
    return [f"{name}: {line}" for line in str("" if value is None else value).splitlines()]


class _Lines(logging.Formatter):
    """Records of which nothing can be taken for another one, nor steer a terminal: they hold what hosts tell."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record)).replace("\n", "\n    ")


class _ClassesFile(BaseModel):
    """The form of such a file. What a class may say is known to the plugin that has classes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    classes: dict[str, dict[str, object]]


def checked_classes(file: Path) -> str:
    """The text of a file of classes. Raises `MomError` with all that is wrong in it, as far as is known here."""
    if not file.is_file():
        raise MomError(f"{printable(str(file), 400)} is no file", hint="name a YAML file with `classes:`")
    classes = read_settings(file, _ClassesFile).classes
    if not classes:
        raise MomError(f"{printable(str(file), 400)} has no classes", hint="`mom fleet classes remove` leaves the hosts to their own")
    if entry_points(group="mom.plugins", name="sla"):
        try:
            load_config({"plugins": {"sla": {"classes": classes}}})
        except ConfigError as error:
            found = [replace(one, file=str(file), message=one.message.removeprefix("plugins.sla.")) for one in error.problems]
            raise ConfigError(found) from None
    else:
        print_prose("What these classes say is not checked here, as mom-plugins-sla is not installed: see `mom fleet status`.", 2, err=True)
    return file.read_text("utf-8")


def named(key: str) -> str:
    """The name of a host or group. Raises `MomError` for one that none can have, such as a pattern: servers take `*` for all of them."""
    if not re.fullmatch(NAME, key):
        raise MomError(f"{printable(key)} is no name of a host or group", hint="use small letters, digits and -, 63 of them at most")
    return key


# --- changing ----------------------------------------------------------------------------------------------------------------------------


async def _group(store: Store, where: Where, group: str, change: Callable[[Group], Mapping[str, object]]) -> int:
    def changed(before: Group | None) -> Group:
        known = before or Group()
        return _checked(Group, {**known.model_dump(), **change(known), "by": _who()})

    return await _change(store, where, GROUPS, Group, group, changed)


async def _change(store: Store, where: Where, bucket: str, kind: type[Kind], key: str, change: Callable[[Kind | None], Kind]) -> int:
    """Change a record as it is now, however many others do the same, and sign it; the new revision."""
    named(key)
    signer, followed, trusted = where.signer(), where.followed, where.operators()
    for _ in range(_ATTEMPTS):
        seen, kept = followed.newest(bucket, key, trusted), await store.read(bucket, key)
        before = _opened(where, bucket, kind, key, kept.data)
        after = change(None if before is None else before.record)
        # What stood there is noted before it is built on, and what is signed before the next change builds on that.
        followed.save()
        confirm(f"{bucket} {key}", None if before is None or before.revision > seen else before.record, after, surely=before is None)
        revision = next_revision(followed.newest(bucket, key, trusted))
        data = signer.signed(bucket, key, after, revision)
        try:
            await store.put(bucket, key, data, kept.revision)
        except ConflictError:
            continue
        followed.open(kind, bucket, key, data, trusted)
        return revision
    raise MomError("others change this all the time", hint="try again")


async def _standing(store: Store, where: Where, bucket: str, kind: type[Kind], key: str) -> Opened[Kind] | None:
    return _opened(where, bucket, kind, key, (await store.read(bucket, key)).data)


def _opened(where: Where, bucket: str, kind: type[Kind], key: str, data: bytes | None) -> Opened[Kind] | None:
    """What stands at a key, if anything does. Raises `MomError` for what no trusted operator has signed, what is over, and where nothing is
    and something was: on such no operator builds."""
    trusted = where.operators()
    if data is None:
        if where.followed.stood(bucket, key, trusted) and not where.anew:
            hint = "if another operator has removed it, or the servers were set up anew: `mom fleet --anew`; else a server hides it"
            raise MomError(f"{bucket} {key} is not there, and was when it was looked at last", hint=hint)
        return None
    try:
        return where.followed.open(kind, bucket, key, data, trusted)
    except MomError as error:
        hint = "name the operator's key with `mom fleet --operator KEY`; after it is revoked, `mom fleet adopt KEY` signs that with yours"
        raise MomError(f"{bucket} {key}: {error.message}", hint=hint if "trusted" in error.message else error.hint) from None


def _checked(kind: type[Kind], values: Mapping[str, object]) -> Kind:
    from pydantic import ValidationError

    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MomError(f"{where}: {first['msg']}: {printable(str(first['input']), 100)}") from None


def _who() -> str:
    return f"{getpass.getuser()} on {socket.gethostname()}"
