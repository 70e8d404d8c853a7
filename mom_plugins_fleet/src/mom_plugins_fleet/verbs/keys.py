"""Subcommands of `mom fleet` for keys of operators and coordinators."""

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
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import AuthorizedKeys
from mom_plugins_fleet.revisions import AHEAD_SECONDS
from mom_plugins_fleet.signatures import Opened, opened
from mom_plugins_fleet.subjects import COORDINATORS
from mom_plugins_fleet.verbs import server_setup
from mom_plugins_fleet.verbs.changes import ask_a_person, change, check_clock, show, sign, standing
from mom_plugins_fleet.verbs.home import CA, OPERATORS, SERVERS, FleetHome, checked_key
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

    home.ask(lambda store: change(home, store, AuthorizedKeys, COORDINATORS, changed))
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
        await sign(home, store, name, record.record, stored, known)
    authorized = await standing(home, store, AuthorizedKeys, COORDINATORS)
    if authorized is not None and key in authorized.record.keys:
        remaining = tuple(other for other in authorized.record.keys if other != key)
        await change(home, store, AuthorizedKeys, COORDINATORS, lambda _: {"keys": remaining})
    return len(records)
