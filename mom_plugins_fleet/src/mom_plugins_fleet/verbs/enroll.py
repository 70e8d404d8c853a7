"""`mom fleet enroll`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import click

from mom_core import MomError, parse_size
from mom_daemon import print_prose
from mom_kvm import Destination
from mom_plugins_fleet.accounts import FleetRoot, write_secret
from mom_plugins_fleet.invitation import Invitation, Token
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import Group, Member
from mom_plugins_fleet.signatures import Opened, next_revision
from mom_plugins_fleet.subjects import GROUPS, INVITATIONS
from mom_plugins_fleet.verbs.changes import agree, change, check_clock, edited, named, standing
from mom_plugins_fleet.verbs.where import Where


@click.command("enroll")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--group", required=True, help="The group whose policies the hosts follow.")
@click.option("--address", metavar="URI", help="URI at which other hosts reach this host's hypervisor, such as qemu+tls://HOST/system.")
@click.option(
    "--memory",
    metavar="SIZE",
    help="Memory of each host, such as 256GiB. Limits the guests that move there, even if the host reports more memory.",
)
@click.option("--metrics-host", metavar="NAME", help="The host's name for Prometheus, if it is not the host in --address.")
@click.option(
    "--token",
    "by_token",
    is_flag=True,
    help="Print a token for `mom fleet join`. It works once, within an hour, and gives the host a new key.",
)
@click.option("--new-key", "key_file", type=click.Path(path_type=Path), help="Make the host's key in this file; copy it to the host.")
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
    """Admit each HOST, or change its group, address, memory or key."""
    if len(hosts) > 1 and (address or metrics_host or key_file):
        raise click.UsageError("--address, --metrics-host and --new-key are for a single host")
    reached = None if address is None else Destination.parse(address)
    has = None if memory is None else parse_size(memory) // 1024
    values = {"address": reached, "memory": has, "metrics_host": metrics_host}
    values_given = {name: value for name, value in values.items() if value is not None}
    for name in (*hosts, group):
        named(name)
    if key_file is not None and key_file.exists():
        raise MomError(f"{key_file} already exists", hint="give the path of a new file")
    if by_token and not where.access().servers[0].startswith("tls://"):
        raise MomError("a token needs servers with TLS", hint="give the servers' addresses as tls://HOST, or use --new-key")
    for host in hosts:
        token = _enroll(where, host, {"group": group, **values_given}, key_file, by_token=by_token)
        print_prose(f"{host} is in the group {group}." + (f" Copy {key_file} to {host}." if key_file else ""), 2)
        if token is not None:
            click.echo(f"Within an hour, run on {host}:\n  mom fleet join {where.access().servers[0].removeprefix('tls://')} {token}")


def _enroll(where: Where, host: str, given: Mapping[str, object], key_file: Path | None, *, by_token: bool) -> Token | None:
    # Write the entry first: of two simultaneous operators, one then fails. A repetition of the command completes the account.
    where.signer()  # raises without a key, before any change
    entry = where.ask(lambda store: _look(where, store, host))
    before = None if entry is None else entry.record
    known_key, new_key = 0 if before is None else before.key_issued, key_file is not None or by_token
    issued = next_revision(known_key) if new_key else known_key
    changes_account = bool(issued) and (new_key or before is None or before.group != given["group"])
    root = where.root() if changes_account or (issued and where.root_file is not None) else None

    def changed(now: Member | None) -> Mapping[str, object]:
        if _identity(now) != _identity(before):
            message = f"another operator has enrolled or removed {host} meanwhile: nothing was changed"
            raise MomError(message, hint="see `mom fleet status`, then enroll the host again with its group")
        return {**given, "key_issued": issued}

    agreed = edited(Member, before, changed)
    agree(where, host, entry, agreed)
    credentials = root.host_credentials(host, issued) if root is not None and new_key else None
    key = "" if credentials is None else f"{credentials.seed}\n{credentials.jwt}"
    if key_file is not None:
        write_secret(key_file, key.encode())
    try:
        revision = where.ask(lambda store: _put(where, store, host, changed, agreed))
        if root is not None:
            where.give(root.host_account(host, agreed.group, issued, revision))
        return where.ask(lambda store: _invite(where, store, host, root, issued, key)) if root is not None and by_token else None
    except BaseException:
        if key_file is not None:
            key_file.unlink(missing_ok=True)
        raise


async def _look(where: Where, store: Store, host: str) -> Opened[Member] | None:
    await check_clock(store)  # accounts have revisions, too
    return await standing(where, store, Member, host)


async def _put(where: Where, store: Store, host: str, changed: Callable[[Member | None], Mapping[str, object]], agreed: Member) -> int:
    revision = await change(where, store, Member, host, changed, agreed=agreed)
    if (await store.read(GROUPS, agreed.group)).data is None:  # an existing record lets hosts notice a server that hides policies
        print_prose(f"The group {agreed.group} is new: it has no policies yet.", 2)
        await change(where, store, Group, agreed.group, lambda _: {})
    return revision


async def _invite(where: Where, store: Store, host: str, root: FleetRoot, issued: int, key: str) -> Token:
    access, token = where.access(), Token.made(host, root.host_keys(host), issued, store.client.certificate)
    ca, operators = access.ca.read_text() if access.ca else "", tuple(sorted(where.operators()))
    invitation = Invitation(key=key, operators=operators, servers=tuple(access.servers), ca=ca)
    await store.lay_out(INVITATIONS, host, token.sealed(invitation))
    return token


def _identity(member: Member | None) -> tuple[int, str] | None:
    return None if member is None else (member.key_issued, member.group)
