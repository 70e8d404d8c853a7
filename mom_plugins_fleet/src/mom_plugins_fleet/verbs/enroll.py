"""`mom fleet enroll`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from mom_core import MomError
from mom_daemon import print_prose
from mom_kvm import Destination
from mom_plugins_fleet.accounts import FleetRoot, write_secret
from mom_plugins_fleet.records import Invitation, Member
from mom_plugins_fleet.signatures import next_revision
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
        file = _enroll(home, host, given, new_key=new_key)
        join = f" Copy {file} to {host}; there, run `mom fleet join {file}`." if file else ""
        print_prose(f"{host} is in the group {group}.{join}", 2)


def _enroll(home: FleetHome, host: str, given: Mapping[str, object], *, new_key: bool) -> Path | None:
    # Returns the file with the host's new key.
    before = home.ask(lambda store: standing(home, store, Member, host))
    file = Path(f"{host}.join") if new_key or before is None or before.record.removed else None
    known_key = 0 if before is None else before.record.key_issued
    issued = next_revision(known_key) if file else known_key
    root = home.root() if before is None or file is not None or before.record.group != given["group"] else None
    if root is not None and file is not None:
        write_secret(file, _invitation(home, root, host, issued).packed())
    try:
        entry = home.ask(lambda store: change(home, store, Member, host, lambda _: {**given, "key_issued": issued}))
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
