"""Subcommands of `mom fleet` for keys of hosts, operators and coordinators."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from mom_core import MomError
from mom_daemon import print_prose
from mom_kvm import Destination
from mom_plugins_fleet.accounts import FleetRoot, write_secret
from mom_plugins_fleet.buckets import COORDINATORS
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import AuthorizedKeys, Invitation, Member
from mom_plugins_fleet.signatures import AHEAD_SECONDS, Opened, next_revision, opened
from mom_plugins_fleet.verbs import server_setup
from mom_plugins_fleet.verbs.home import CA, OPERATORS, SERVERS, FleetHome, ask_a_person, check_clock, checked_key, named, show
from mom_plugins_fleet.view import FleetView


@click.command("key")
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
def key_command(home: FleetHome, folder: Path) -> None:
    """Make the FOLDER of another operator or of a coordinator, and print its public key.

    Copy the folder to that machine, as /etc/mom/fleet. This command needs the fleet's root key.
    """
    root = home.root()
    try:
        folder.mkdir(mode=0o755)
        for name in (SERVERS, CA, OPERATORS):
            shutil.copy(home.path / name, folder)
    except OSError as error:
        raise MomError(f"cannot create the folder {folder}: {error.strerror}", hint="give the path of a new folder") from None
    click.echo(server_setup.make_key(folder, root))


@click.command("authorize")
@click.argument("key")
@click.pass_obj
def authorize_command(home: FleetHome, key: str) -> None:
    """Let all hosts follow the orders of the coordinator with the public KEY. Operators' keys need no authorization."""
    checked_key(key)

    def changed(before: AuthorizedKeys | None) -> Mapping[str, object]:
        return {"keys": tuple(dict.fromkeys([*(() if before is None else before.keys), key]))}

    home.ask(lambda store: home.change(store, AuthorizedKeys, COORDINATORS, changed))
    print_prose("Hosts follow this coordinator's orders.", 2)


@click.command("revoke")
@click.argument("key")
@click.pass_obj
def revoke_command(home: FleetHome, key: str) -> None:
    """Revoke the public KEY of an operator or coordinator: end its authorization, and let the servers refuse it.

    Records signed with KEY are signed again with your key. The command shows these records first and, at a terminal, asks for
    confirmation, because somebody who stole KEY may have made some of them. This command needs the fleet's root key.
    """
    root, own = home.root(), home.signer().public
    if checked_key(key) == own:
        raise MomError("this is your own key", hint="use the folder of another operator")
    count = home.ask(lambda store: _take_over(home, store, key))
    root.revoke(key)
    home.give(root.fleet_account())
    accounts = server_setup.write_accounts(root)
    print_prose(f"{count} records are signed with your key now. The servers refuse the other key. Before their next start, copy", 2)
    print_prose(f"{accounts} to all servers. Remove an operator's key from `operators` of all hosts and other operators.", 2)


async def _take_over(home: FleetHome, store: Store, key: str) -> int:
    await check_clock(store)
    view, records = FleetView(), list[tuple[str, int, Opened[Any]]]()
    for bucket in (view.members, view.groups, view.authorized):
        await store.load(bucket)
        for name, kept in bucket.stored.items():
            with suppress(MomError):  # another operator's record
                records.append((name, kept.revision, opened(bucket.kind, name, kept.data or b"", {key})))
    for name, _, record in records:
        show(name, None, record.record)
    if records:
        ask_a_person(f"Sign these {len(records)} records?")
    for name, stored, record in records:
        known = record.revision if record.revision < time.time() + AHEAD_SECONDS else 0  # hosts follow no record that is ahead
        await home.sign(store, name, record.record, stored, known)
    authorized = await home.standing(store, AuthorizedKeys, COORDINATORS)
    if authorized is not None and key in authorized.record.keys:
        remaining = tuple(other for other in authorized.record.keys if other != key)
        await home.change(store, AuthorizedKeys, COORDINATORS, lambda _: {"keys": remaining})
    return len(records)


@click.command("enroll")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--group", required=True, help="The group whose policies the hosts follow.")
@click.option("--address", metavar="URI", help="URI at which other hosts reach this host's hypervisor, such as qemu+tls://HOST/system.")
@click.option("--new-key", is_flag=True, help="Replace the key of a host that is enrolled already.")
@click.pass_obj
def enroll_command(home: FleetHome, hosts: tuple[str, ...], group: str, address: str | None, new_key: bool) -> None:
    """Admit each HOST, or change its group, address or key.

    A host with a new key gets a secret file HOST.join in the current folder. Copy the file to the host, for `mom fleet join`.
    """
    if len(hosts) > 1 and address:
        raise click.UsageError("--address is for a single host")
    given: dict[str, object] = {"group": named(group), "removed": False}
    if address is not None:
        given["address"] = Destination.parse(address)
    for host in map(named, hosts):
        file = _enroll(home, host, given, new_key=new_key)
        join = f" Copy {file} to {host}; there, run `mom fleet join {file}`." if file else ""
        print_prose(f"{host} is in the group {group}.{join}", 2)


def _enroll(home: FleetHome, host: str, given: Mapping[str, object], *, new_key: bool) -> Path | None:
    # Returns the file with the host's new key.
    before = home.ask(lambda store: home.standing(store, Member, host))
    file = Path(f"{host}.join") if new_key or before is None or before.record.removed else None
    known_key = 0 if before is None else before.record.key_issued
    issued = next_revision(known_key) if file else known_key
    root = home.root() if before is None or file is not None or before.record.group != given["group"] else None
    if root is not None and file is not None:
        write_secret(file, _invitation(home, root, host, issued).packed())
    try:
        entry = home.ask(lambda store: home.change(store, Member, host, lambda _: {**given, "key_issued": issued}))
        if root is not None:
            home.give(root.host_account(host, entry.record.group, issued, entry.revision))
    except MomError as error:
        if file is None:
            raise
        file.unlink(missing_ok=True)
        raise MomError(error.message, hint=f"{error.hint}; then repeat the command with --new-key".removeprefix("; ")) from None
    return file


def _invitation(home: FleetHome, root: FleetRoot, host: str, issued: int) -> Invitation:
    access = home.access
    ca = access.ca.read_text() if access.ca else ""
    credentials = root.host_credentials(host, issued)
    return Invitation(host=host, credentials=credentials, operators=tuple(sorted(home.operators)), servers=tuple(access.servers), ca=ca)
