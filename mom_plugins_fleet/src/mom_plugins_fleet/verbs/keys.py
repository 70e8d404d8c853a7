"""Subcommands of `mom fleet` for keys of operators and coordinators."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click

from mom_core import MomError, printable
from mom_daemon import print_prose
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import AuthorizedKeys
from mom_plugins_fleet.revisions import AHEAD_SECONDS
from mom_plugins_fleet.signatures import next_revision, opened
from mom_plugins_fleet.subjects import COORDINATORS
from mom_plugins_fleet.verbs import server_setup
from mom_plugins_fleet.verbs.changes import ask_a_person, change, check_clock, show
from mom_plugins_fleet.verbs.where import Where, checked_key
from mom_plugins_fleet.view import FleetView


@click.command("key")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def key_command(where: Where, file: Path) -> None:
    """Make a key of an operator or a coordinator in FILE, and print its public key. With the fleet's root key, also make the key for
    connecting."""
    click.echo(server_setup.make_operator(file, where.root() if where.root_file else None))


@click.command("revoke")
@click.argument("key")
@click.pass_obj
def revoke_command(where: Where, key: str) -> None:
    """Revoke the public KEY of an operator or coordinator on the servers, at once."""
    root = where.root()
    own = where.signer().public if where.key is not None and Path(where.key).exists() else None
    if checked_key(key) == own:
        ask_a_person("This is your own key. Revoke it?")
    root.revoke(key)
    where.give(root.fleet_account())
    accounts = server_setup.write_accounts(root)
    print_prose(f"The servers now refuse the key. Before their next start, copy {accounts} to all servers. Remove the key from", 2)
    print_prose("`operators` of all hosts: until then, the hosts accept its signatures.", 2)


@click.command("authorize")
@click.argument("key")
@click.option("--remove", is_flag=True, help="Withdraw the authorization of KEY.")
@click.pass_obj
def authorize_command(where: Where, key: str, remove: bool) -> None:
    """Let all hosts follow the orders of the coordinator with the public KEY. Operators' keys need no authorization."""
    if not remove:
        checked_key(key)

    def changed(before: AuthorizedKeys | None) -> Mapping[str, object]:
        keys = () if before is None else before.keys
        if remove and key not in keys:
            raise MomError(f"{printable(key)} is not authorized", hint=f"authorized: {', '.join(keys) or 'no coordinator'}")
        remaining = tuple(other for other in keys if other != key)
        return {"keys": remaining if remove else (*remaining, key)}

    where.ask(lambda store: change(where, store, AuthorizedKeys, COORDINATORS, changed))
    print_prose(f"Hosts {'no longer ' if remove else ''}follow this coordinator's orders.", 2)


@click.command("countersign")
@click.argument("key")
@click.pass_obj
def countersign_command(where: Where, key: str) -> None:
    """Sign again, with your key, all records signed with KEY, before KEY is revoked on the hosts. The command shows all records
    and, at a terminal, asks for confirmation, because somebody who stole KEY may have made some of them."""
    checked_key(key)

    async def signed(store: Store) -> int:
        await check_clock(store)
        signer, trusted, view, records = where.signer(), where.operators() | {key}, FleetView(), []
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
            before = record.revision if record.revision < next_revision(0) + AHEAD_SECONDS else 0
            revision = next_revision(max(before, where.revisions.newest(record.record.bucket, name, trusted)))
            data = signer.signed(name, record.record, revision)
            await store.put(record.record.bucket, name, data, stored)
            where.revisions.open(type(record.record), name, data, {signer.public})
        return len(records)

    print_prose(f"{where.ask(signed)} records are signed with your key now.", 2)
