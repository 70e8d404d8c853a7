"""`mom fleet`: what an operator of many hosts types."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from mom_core import MomError, parse_size, printable, printable_lines
from mom_daemon import as_caller, print_prose
from mom_kvm import Destination
from mom_plugins_fleet import server_setup
from mom_plugins_fleet.accounts import ACCOUNT, host_credentials, new_seed, write_secret
from mom_plugins_fleet.changes import agree, ask_a_person, change, change_group, check_clock, checked, named, show, standing, who
from mom_plugins_fleet.group_verbs import policy_group
from mom_plugins_fleet.invitation import Invitation, Token
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.plan_verb import plan_command
from mom_plugins_fleet.records import MOST_EARLIER, MOST_REMOVED, AuthorizedKeys, Group, Member
from mom_plugins_fleet.revisions import AHEAD_SECONDS
from mom_plugins_fleet.signatures import Opened, next_revision, opened
from mom_plugins_fleet.status_verb import status_command
from mom_plugins_fleet.subjects import AUTHORIZED, COORDINATORS, GROUPS, INVITATIONS, ORDERS, PROGRESS, ROSTER, STATES
from mom_plugins_fleet.where import LOG, Where, checked_key


@click.group("fleet", short_help="Many hosts: policies, state, draining.", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--server", "servers", multiple=True, envvar="MOM_FLEET_SERVERS", metavar="URL", help="A NATS server; may be repeated.")
@click.option("--key", envvar="MOM_FLEET_KEY", metavar="FILE", help="The operator's key.")
@click.option("--ca", envvar="MOM_FLEET_CA", metavar="FILE", help="What the servers' certificates are checked with, as PEM.")
@click.option(
    "--operator", "named", multiple=True, envvar="MOM_FLEET_OPERATORS", metavar="KEY", help="Another operator's public key: to be believed."
)
@click.option(
    "--root",
    "root_file",
    type=click.Path(path_type=Path),
    envvar="MOM_FLEET_ROOT",
    metavar="FILE",
    help="The fleet's root key, by which hosts and operators are let in.",
)
@click.option(
    "--anew",
    is_flag=True,
    help="What the servers do not have is gone, and what they have counts though it is older: another operator has removed it, or they were"
    " set up anew or set back.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    envvar="MOM_FLEET_HOME",
    default="/etc/mom/fleet",
    show_default=True,
    metavar="DIR",
    help="What `mom fleet init` has made: used where no --server is given.",
)
@click.option(
    "-c", "--config", envvar="MOM_CONFIG", metavar="FILE", help="The configuration whose plugin fleet says where the servers are."
)
@click.pass_context
@as_caller
def fleet(context: click.Context, /, **options: Any) -> None:
    """Look after many hosts: their groups, policies and guests. What operators have signed, and stands in the fleet's servers, is what
    counts."""
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # what is wrong is said by the command itself
    context.obj = Where(**options)


fleet.add_command(plan_command)
fleet.add_command(status_command)
fleet.add_command(policy_group)


@fleet.command("top")
@click.pass_obj
def top_command(where: Where) -> None:
    """Watch all hosts in the terminal: their memory, guests and policies, those that suffer first. `?` shows the keys.

    `mom fleet status` prints the same once.
    """
    from mom_plugins_fleet.top_verb import watch_fleet  # what draws is of use to no other verb

    watch_fleet(where)


# --- the fleet itself ------------------------------------------------------------------------------------------------------------------


@fleet.command("init")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--replicas", type=click.IntRange(1, 5), default=1, show_default=True, help="On how many servers everything is kept.")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=server_setup.STORE,
    show_default=True,
    metavar="DIR",
    help="Where this machine's server keeps all that it is told.",
)
@click.option("--no-start", is_flag=True, help="Make the files, and have no server run.")
@click.pass_obj
def init_command(where: Where, names: tuple[str, ...], replicas: int, store: Path, no_start: bool) -> None:
    """Begin a fleet: make its keys and certificates, and have a NATS server run on this machine, which hosts reach as NAME or NAME:PORT.

    Without NAME, or again: make the fleet's buckets in the servers, where they are missing, and with its root key give them the accounts of
    all hosts, as to servers that are new, which have none.
    """
    unit = where.home / server_setup.UNIT
    if names:
        server_setup.make_server(where.home, names, store.absolute())
        where.look_at_home()
        why = "" if no_start else server_setup.systemd_does(f"enable --now {unit}")
        if no_start or why:
            print_prose(f"The server does not run yet{': ' if why else ''}{why}", 2)
            print_prose(f"Have `nats-server -c {where.home}/nats.conf` run, as {unit} says, and then `mom fleet init` go on.", 2)
            return

    async def made(store: Store) -> list[str]:
        await store.make(replicas)
        if not where.root_file:
            return []
        members = (await where.view(store)).members.records.items()
        return [where.root().host_account(one.account, name, one.group, revision) for name, (revision, one) in members if one.account]

    accounts = where.ask(made, patient=bool(names))
    if where.root_file:
        where.give(where.root().fleet_account(), *accounts)
    print_prose("The fleet's buckets are there." + (f" The servers have the accounts of {len(accounts)} hosts." if accounts else ""), 2)
    if not accounts:
        print_prose("Next: `mom fleet enroll HOST --group GROUP --token` prints what HOST joins with.", 2)


@fleet.command("join")
@click.argument("address")
@click.argument("token")
@click.option("--no-restart", is_flag=True, help="Leave a mom that runs as it is.")
@click.pass_obj
def join_command(where: Where, address: str, token: str, no_restart: bool) -> None:
    """Make this host a member of the fleet whose server is at ADDRESS, with a TOKEN that `mom fleet enroll --token` has printed.

    It is good once. The server's certificate must be the one that it names. This host's key and the fleet's certificate come beside its
    configuration, which gets a part `fleet:`. Where that is the unit's, mom.service is started again if it runs.
    """
    from mom_plugins_fleet.membership import DEFAULT_CONFIG, join

    config, invited = Path(where.config or DEFAULT_CONFIG).absolute(), Token.parse(token)
    join(config, address, invited)
    print_prose(f"{invited.host} is a member of the fleet, by {config}. `mom doctor` says whether the servers answer.", 2)
    if config != DEFAULT_CONFIG:
        print_prose(f"A mom that runs by {config} is in the fleet when it is started again.", 2)
        return
    why = "it was not to be" if no_restart else server_setup.systemd_does("daemon-reload", "try-restart mom")
    if why:
        print_prose(f"mom is not started again ({why}): `systemctl daemon-reload && systemctl restart mom`.", 2)


@fleet.command("key")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def key_command(where: Where, file: Path) -> None:
    """Make a key of an operator or a coordinator in FILE, and print its public part. With the fleet's root key, also the one with which it
    connects."""
    click.echo(server_setup.make_operator(file, where.root() if where.root_file else None))


@fleet.command("revoke")
@click.argument("key")
@click.pass_obj
def revoke_command(where: Where, key: str) -> None:
    """Have the servers let an operator or a coordinator with the public KEY in no more, at once."""
    root = where.root()
    if checked_key(key) == _own_key(where):
        ask_a_person("It is the key that you work with. Revoke it?")
    root.revoke(key)
    where.give(root.fleet_account())
    accounts = server_setup.write_accounts(root)
    print_prose(f"The servers let it in no more. For their next start, bring {accounts} to all of them; and take the key out of", 2)
    print_prose("`operators` of all hosts: what it has signed counts there until then.", 2)


def _own_key(where: Where) -> str | None:
    return where.signer().public if where.key is not None and Path(where.key).exists() else None


@fleet.command("enroll")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--group", required=True, help="The group whose policies they follow.")
@click.option("--address", metavar="URI", help="Where other hosts reach its hypervisor, such as qemu+tls://HOST/system.")
@click.option("--memory", metavar="SIZE", help="What each has, such as 256GiB: guests come to it for no more than that, whatever it tells.")
@click.option("--metrics-host", metavar="NAME", help="What Prometheus calls the host, where that is not the host in the address.")
@click.option("--token", "by_token", is_flag=True, help="Print what the host joins with: a new key, to be had once within an hour.")
@click.option("--new-key", "key_file", type=click.Path(path_type=Path), help="Make the host's key in this file, to be brought to it.")
@click.pass_obj
def enroll_command(
    where: Where,
    hosts: tuple[str, ...],
    group: str,
    address: str | None,
    memory: str | None,
    metrics_host: str | None,
    by_token: bool,
    key_file: Path | None,
) -> None:
    """Let each HOST in, or change its group, address, memory or key."""
    if len(hosts) > 1 and (address or metrics_host or key_file):
        raise click.UsageError("--address, --metrics-host and --new-key are of one host")
    reached = None if address is None else Destination.parse(address)
    has = None if memory is None else parse_size(memory) // 1024
    given = {"address": reached, "memory": has, "metrics_host": metrics_host}
    for name in (*hosts, group):
        named(name)
    if key_file is not None and key_file.exists():
        raise MomError(f"{key_file} is there already", hint="name a file that is not there yet")
    if by_token and not where.access().servers[0].startswith("tls://"):
        raise MomError("a token is for servers with TLS", hint="name them as tls://HOST, or use --new-key")
    for host in hosts:
        token = _enroll(where, host, group, given, key_file, by_token=by_token)
        print_prose(f"{host} is in the group {group}." + (f" Bring {key_file} to it." if key_file else ""), 2)
        if token is not None:
            click.echo(f"Within an hour, on {host}:\n  mom fleet join {where.access().servers[0].removeprefix('tls://')} {token}")


class _OtherWasFasterError(MomError):
    """Another operator has changed a host's key or group since they were looked at, or has removed it: nothing was changed."""


def _enroll(where: Where, host: str, group: str, given: Mapping[str, object], key_file: Path | None, *, by_token: bool) -> Token | None:
    where.signer()  # without one, nothing is changed

    async def looked(store: Store) -> Opened[Member] | None:
        await check_clock(store)  # before the servers are given an account, which has a revision, too
        return await standing(where, store, ROSTER, Member, host)

    known = where.ask(looked)
    before = None if known is None else known.record
    account, seed, credentials = before.account if before else "", new_seed(ACCOUNT), None
    if key_file is not None or by_token:
        account, credentials = host_credentials(host, seed)
    revision = next_revision(0 if known is None else known.revision)
    new_account, ended = "", () if before is None or before.account == account else before.accounts
    if account and (before is None or credentials is not None or before.group != group):
        new_account = where.root().host_account(account, host, group, revision)
    key = "" if credentials is None else f"{credentials.seed}\n{credentials.jwt}"

    def enrolled(now: Member | None) -> Member:
        if _lets_in(now) != _lets_in(before):  # what the servers were given, and which keys end, follows from what stood there
            message = f"another operator has enrolled or removed {host} meanwhile: this changes nothing"
            raise _OtherWasFasterError(message, hint="see `mom fleet status`, and enroll it again where it is to be otherwise")
        changes: dict[str, object] = {"group": group, "by": who(), "account": account}
        if now is not None and now.account != account:
            changes["earlier_accounts"] = now.accounts[-MOST_EARLIER:]
        changes |= {name: value for name, value in given.items() if value is not None}
        return checked(Member, {**(now.model_dump() if now else {}), **changes})

    agreed = enrolled(before)
    agree(where, ROSTER, host, known, agreed)

    async def put(store: Store) -> Token | None:
        await change(where, store, ROSTER, Member, host, enrolled, agreed=agreed)
        if (await store.read(GROUPS, group)).data is None:  # so that what the group has can be told from what a server does not tell
            print_prose(f"The group {group} is new: it has no policies yet.", 2)
            await change_group(where, store, group, lambda _: {})
        return await _invite(where, store, host, seed, key) if by_token else None

    with _written(key_file, key):
        if new_account:  # before the host hears of it: then it may read what it is told to
            where.give(new_account)
    try:
        token = where.ask(put)
    except _OtherWasFasterError:
        if key_file is not None:
            key_file.unlink(missing_ok=True)
        if credentials is not None:
            where.give(take=[account])
        elif new_account:
            _give_again(where, host, account, revision)
        raise
    except MomError as error:
        if key_file is None:
            raise
        # The file with the new key stays, as the host's record may name it by then: it is nowhere else.
        message = f"{host} may have its new key, {key_file}, by now, and any old one lets it in as before: {error.message}"
        raise MomError(message, hint="enroll it with another new key: that ends all before") from None
    if ended:  # not before their successor is there: which of them the host works with is not known
        _end(where, host, ended)
    return token


def _lets_in(member: Member | None) -> tuple[str, str] | None:
    """The account that lets a host in, and the group whose records that account lets it read."""
    return None if member is None else (member.account, member.group)


def _give_again(where: Where, host: str, account: str, given: int) -> None:
    """Give an account to the servers as the host's record has it now. Raises `MomError`.

    :param given: the revision of the one that they were given
    """
    stands = where.ask(lambda store: standing(where, store, ROSTER, Member, host))
    if stands is not None and stands.record.account == account:
        where.give(where.root().host_account(account, host, stands.record.group, next_revision(max(given, stands.revision))))


@contextmanager
def _written(key_file: Path | None, key: str) -> Iterator[None]:
    """With a new key in its file, if one is named. What fails then leaves no file: nothing lets that key in. Raises `MomError`."""
    if key_file is None:
        yield
        return
    write_secret(key_file, key.encode())
    try:
        yield
    except BaseException:
        key_file.unlink(missing_ok=True)
        raise


def _end(where: Where, host: str, accounts: Sequence[str]) -> None:
    """End the accounts that a host had before. Raises `MomError`."""
    try:
        where.give(take=accounts)
    except MomError as error:
        message = f"{host} has a new key, and its old one lets it in as before: {error.message}"
        raise MomError(message, hint="enroll it with another new key: that ends all before") from None


async def _invite(where: Where, store: Store, host: str, account_seed: str, key: str) -> Token:
    """Let a host take its key, once."""
    access, token = where.access(), Token.made(host, account_seed, store.client.certificate)
    ca = access.ca.read_text() if access.ca else ""
    invitation = Invitation(key=key, operators=tuple(sorted(where.operators())), servers=tuple(access.servers), ca=ca)
    await store.lay_out(INVITATIONS, host, token.sealed(invitation))
    return token


@fleet.command("remove")
@click.argument("host")
@click.pass_obj
def remove_command(where: Where, host: str) -> None:
    """Take HOST out of the fleet. It keeps the policies that it has, and its guests."""

    known = where.ask(lambda store: standing(where, store, ROSTER, Member, named(host)))
    if known is not None and known.record.accounts:
        where.give(take=known.record.accounts)

    def without(before: AuthorizedKeys | None, last: int) -> AuthorizedKeys:
        now = before or AuthorizedKeys()
        removed = sorted({**now.removed, host: last}.items(), key=lambda each: each[1])[-MOST_REMOVED:]
        return checked(AuthorizedKeys, {**now.model_dump(), "removed": dict(removed), "by": who()})

    async def removed(store: Store) -> None:
        left = [bucket for bucket in (STATES, ORDERS, PROGRESS) if (await store.read(bucket, host)).data is not None]
        if known is not None:
            last = known.revision  # signed, as its entry stays signed: whoever kept that could have guests moved there for ever
            await change(where, store, AUTHORIZED, AuthorizedKeys, COORDINATORS, lambda before: without(before, last))
            await store.remove(ROSTER, host)
            where.revisions.removed(ROSTER, host, known.by, where.operators())
        elif not left:  # else an earlier removal was ended before it had taken all
            raise MomError(f"the fleet has no host {printable(host)}")
        for bucket in left:
            await store.remove(bucket, host)

    where.ask(removed)
    print_prose(f"{host} is not in the fleet any more, and the servers do not let it in.", 2)


@fleet.command("coordinator")
@click.option("--name", default=socket.gethostname, help="Who this is, for `mom fleet status`.  [default: the host's name]")
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write what it knows of the fleet to FILE, such as mom-fleet.prom in the folder of node_exporter's textfile collector.",
)
@click.pass_obj
def coordinator_command(where: Where, name: str, metrics: Path | None) -> None:
    """Say where guests of drained hosts go, until SIGTERM. Several may run: one works, the others wait to take over."""
    from mom_plugins_fleet.coordinator import Coordinator
    from mom_plugins_fleet.metrics_file import write_metrics

    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(levelname)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    access, signer = where.access(), where.signer()
    # Where operators are named, this key is one of them or was authorized by one: its own word for that counts on no host.
    operators = where.named_operators() or where.operators()

    async def work() -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)  # type: ignore[union-attr]  # asyncio.run makes a task
        one = Coordinator(access, f"{name} (process {os.getpid()})", LOG, signer, operators, where.revisions_as("fleet-coordinator"))
        await asyncio.gather(one.run(), *([write_metrics(metrics, one, LOG)] if metrics else []))

    with suppress(asyncio.CancelledError):
        asyncio.run(work())


@fleet.command("targets")
@click.pass_obj
def targets_command(where: Where) -> None:
    """Print where the metrics of all hosts are, in the form that Prometheus reads files in. Hosts without are named on standard error."""
    from mom_plugins_fleet.targets import WHY, targets

    found = targets(where.ask(where.view))
    click.echo(json.dumps(found))
    for labels in (one["labels"] for one in found):
        if WHY in labels:
            print_prose(f"{printable(labels['host'])}: {labels[WHY]}", 2, err=True)


@fleet.command("authorize")
@click.argument("key")
@click.option("--remove", is_flag=True, help="Its orders are not followed any more.")
@click.pass_obj
def authorize_command(where: Where, key: str, remove: bool) -> None:
    """Have all hosts follow the orders of the coordinator with the public KEY. An operator's own key needs that not."""
    if not remove:
        checked_key(key)

    def changed(before: AuthorizedKeys | None) -> AuthorizedKeys:
        now = before or AuthorizedKeys()
        if remove and key not in now.keys:
            raise MomError(f"{printable(key)} was not among them", hint=f"hosts follow {', '.join(now.keys) or 'no coordinator'}")
        others = [one for one in now.keys if one != key]
        return checked(AuthorizedKeys, {**now.model_dump(), "keys": tuple(others if remove else [*others, key]), "by": who()})

    where.ask(lambda store: change(where, store, AUTHORIZED, AuthorizedKeys, COORDINATORS, changed))
    print_prose(f"Hosts follow its orders{' no more' if remove else ''}.", 2)


@fleet.command("countersign")
@click.argument("key")
@click.pass_obj
def countersign_command(where: Where, key: str) -> None:
    """Sign with your key what an operator with the public KEY has signed, before that key is revoked on the hosts. All of it is shown, and
    at a terminal asked about: a thief of that key may have made it."""
    checked_key(key)

    async def signed(store: Store) -> int:
        await check_clock(store)
        signer, trusted, found = where.signer(), where.operators() | {key}, []
        for bucket, kind in ((ROSTER, Member), (GROUPS, Group), (AUTHORIZED, AuthorizedKeys)):
            for name, kept in (await store.load(bucket)).items():
                with suppress(MomError):  # it is another operator's
                    found.append((bucket, kind, name, kept.revision, opened(kind, bucket, name, kept.data or b"", {key})))
        for bucket, _, name, _, one in found:
            show(f"{bucket} {name}", None, one.record)
        if found:
            ask_a_person(f"Sign these {len(found)} records?")
        for bucket, kind, name, stored, one in found:
            before = one.revision if one.revision < next_revision(0) + AHEAD_SECONDS else 0
            revision = next_revision(max(before, where.revisions.newest(bucket, name, trusted)))
            data = signer.signed(bucket, name, one.record, revision)
            await store.put(bucket, name, data, stored)
            where.revisions.open(kind, bucket, name, data, {signer.public})
        return len(found)

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
        return before.model_copy(update={**changes, "by": who()})

    where.ask(lambda store: change(where, store, ROSTER, Member, host, changed))
    print_prose(f"{host} {said}", 2)


_flag("cordon", "Move nothing to HOST.", "takes no guests any more.", cordoned=True)
_flag("uncordon", "Let guests come to HOST again, and stay there.", "takes guests.", cordoned=False, draining=False)
_flag(
    "drain",
    "Move all guests away from HOST. `mom fleet status` shows how far that is, and `mom fleet uncordon` ends it.",
    "is to lose all its guests: `mom fleet status` shows how far that is.",
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


class _Lines(logging.Formatter):
    """Records of which nothing can be taken for another one, nor steer a terminal: they hold what hosts tell."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record)).replace("\n", "\n    ")
