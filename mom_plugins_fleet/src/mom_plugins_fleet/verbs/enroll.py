"""`mom fleet enroll`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from mom_daemon import print_prose
from mom_kvm import Destination
from mom_plugins_fleet.accounts import FleetRoot, write_secret
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import Group, Invitation, Member
from mom_plugins_fleet.signatures import Opened, next_revision
from mom_plugins_fleet.subjects import GROUPS
from mom_plugins_fleet.verbs.changes import change, named, standing
from mom_plugins_fleet.verbs.home import FleetHome


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
        before = home.ask(lambda store, host=host: standing(home, store, Member, host))  # type: ignore[misc]  # bound now
        file = Path(f"{host}.join") if new_key or before is None or before.record.removed else None
        _enroll(home, host, given, before, file)
        join = f" Copy {file} to {host}; there, run `mom fleet join {file}`." if file else ""
        print_prose(f"{host} is in the group {group}.{join}", 2)


def _enroll(home: FleetHome, host: str, given: Mapping[str, object], before: Opened[Member] | None, file: Path | None) -> None:
    # Write the entry first: a repetition of the command completes the account.
    known_key = 0 if before is None else before.record.key_issued
    issued = next_revision(known_key) if file else known_key
    changes_account = file is not None or before is None or before.record.group != given["group"]
    root = home.root() if issued and changes_account else None
    if root is not None and file is not None:
        write_secret(file, _invitation(home, root, host, issued).packed())
    try:
        entry = home.ask(lambda store: _put(home, store, host, {**given, "key_issued": issued}))
        if root is not None:
            home.give(root.host_account(host, entry.record.group, issued, entry.revision))
    except BaseException:
        if file is not None:
            file.unlink(missing_ok=True)
        raise


def _invitation(home: FleetHome, root: FleetRoot, host: str, issued: int) -> Invitation:
    access = home.access
    ca = access.ca.read_text() if access.ca else ""
    credentials = root.host_credentials(host, issued)
    return Invitation(host=host, credentials=credentials, operators=tuple(sorted(home.operators)), servers=tuple(access.servers), ca=ca)


async def _put(home: FleetHome, store: Store, host: str, fields: Mapping[str, object]) -> Opened[Member]:
    entry = await change(home, store, Member, host, lambda _: fields)
    if (await store.read(GROUPS, entry.record.group)).data is None:  # an existing record lets hosts notice a server that hides policies
        print_prose(f"The group {entry.record.group} is new: it has no policies yet.", 2)
        await change(home, store, Group, entry.record.group, lambda _: {})
    return entry
