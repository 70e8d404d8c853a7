"""`mom fleet enroll`: admit a host, or change its group, address, memory or key."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click

from mom_core import MomError, parse_size
from mom_daemon import print_prose
from mom_kvm import Destination
from mom_plugins_fleet.accounts import ACCOUNT, host_credentials, new_seed, write_secret
from mom_plugins_fleet.invitation import Invitation, Token
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import MOST_EARLIER, Group, Member
from mom_plugins_fleet.signatures import Opened, next_revision
from mom_plugins_fleet.subjects import GROUPS, INVITATIONS, ROSTER
from mom_plugins_fleet.verbs.changes import agree, change, check_clock, edited, named, standing
from mom_plugins_fleet.verbs.where import Where


@click.command("enroll")
@click.argument("hosts", nargs=-1, required=True, metavar="HOST...")
@click.option("--group", required=True, help="The group whose policies the hosts follow.")
@click.option("--address", metavar="URI", help="URI at which other hosts reach this host's hypervisor, such as qemu+tls://HOST/system.")
@click.option(
    "--memory", metavar="SIZE", help="Memory of each host, such as 256GiB. It limits the guests there, even if the host reports more."
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
        token = _Enrolment(where, host, group, values_given, key_file, by_token=by_token).run()
        print_prose(f"{host} is in the group {group}." + (f" Copy {key_file} to it." if key_file else ""), 2)
        if token is not None:
            click.echo(f"Within an hour, on {host}:\n  mom fleet join {where.access().servers[0].removeprefix('tls://')} {token}")


class _ChangedMeanwhileError(MomError):
    """Concurrent change of the host by another operator. This command changed nothing."""


class _Enrolment:
    def __init__(self, where: Where, host: str, group: str, given: Mapping[str, object], key_file: Path | None, *, by_token: bool) -> None:
        self._where, self._host, self._group, self._given, self._key_file, self._by_token = where, host, group, given, key_file, by_token
        where.signer()  # raises without a key, before any change
        self._entry = where.ask(self._look)
        self._before = None if self._entry is None else self._entry.record
        self._seed, self._account, self._key = new_seed(ACCOUNT), self._before.account if self._before else "", ""
        if key_file is not None or by_token:
            self._account, credentials = host_credentials(host, self._seed)
            self._key = f"{credentials.seed}\n{credentials.jwt}"

    async def _look(self, store: Store) -> Opened[Member] | None:
        await check_clock(store)  # before the servers get an account, which has a revision too
        return await standing(self._where, store, Member, self._host)

    def run(self) -> Token | None:
        where, host = self._where, self._host
        agreed = edited(Member, self._before, self._change)
        agree(where, host, self._entry, agreed)
        if self._key_file is not None:
            write_secret(self._key_file, self._key.encode())
        try:
            self._give_account()  # first, so that the host may read its new group's record
        except BaseException:
            self._drop_key()
            raise
        try:
            token = where.ask(lambda store: self._put(store, agreed))
        except _ChangedMeanwhileError:
            self._drop_key()
            if self._key:
                where.give(take=[self._account])
            raise
        except MomError as error:
            if self._key_file is None:
                if self._key:  # nobody has the token
                    with suppress(MomError):
                        where.give(take=[self._account])
                raise
            # Keep the file: the host's entry may already hold the new key.
            message = f"{host} may already have its new key, {self._key_file}, and an old key still works: {error.message}"
            raise MomError(message, hint="enroll it with another new key: that ends all earlier keys") from None
        if self._before is not None and self._before.account != self._account and self._before.accounts:
            try:  # last: the host may use an old key until then
                where.give(take=self._before.accounts)
            except MomError as error:
                message = f"{host} has a new key, but its old key still works: {error.message}"
                raise MomError(message, hint="enroll it with another new key: that ends all earlier keys") from None
        return token

    def _give_account(self) -> None:
        before = self._before
        again = self._where.root_file is not None  # after a conflict, the account may have another group
        if self._account and (before is None or self._key or before.group != self._group or again):
            revision = next_revision(0 if self._entry is None else self._entry.revision)
            self._where.give(self._where.root().host_account(self._account, self._host, self._group, revision))

    def _drop_key(self) -> None:
        if self._key_file is not None:
            self._key_file.unlink(missing_ok=True)

    def _change(self, now: Member | None) -> Mapping[str, object]:
        if _identity(now) != _identity(self._before):
            raise self._changed_meanwhile()
        changes: dict[str, object] = {"group": self._group, "account": self._account, **self._given}
        if now is not None and now.account != self._account:
            changes["earlier_accounts"] = now.accounts[-MOST_EARLIER:]
        return changes

    def _changed_meanwhile(self) -> _ChangedMeanwhileError:
        message = f"another operator has enrolled or removed {self._host} meanwhile: nothing was changed"
        return _ChangedMeanwhileError(message, hint="see `mom fleet status`, then enroll it again with its group")

    async def _put(self, store: Store, agreed: Member) -> Token | None:
        where, host, group = self._where, self._host, self._group
        try:
            await change(where, store, Member, host, self._change, agreed=agreed)
        except MomError:
            if self._before is not None and (await store.read(ROSTER, host)).data is None:
                raise self._changed_meanwhile() from None
            raise
        if (await store.read(GROUPS, group)).data is None:  # an existing record lets hosts notice a server that hides policies
            print_prose(f"The group {group} is new: it has no policies yet.", 2)
            await change(where, store, Group, group, lambda _: {})
        return await self._invite(store) if self._by_token else None

    async def _invite(self, store: Store) -> Token:
        access, token = self._where.access(), Token.made(self._host, self._seed, store.client.certificate)
        ca = access.ca.read_text() if access.ca else ""
        operators = tuple(sorted(self._where.operators()))
        await store.lay_out(
            INVITATIONS, self._host, token.sealed(Invitation(key=self._key, operators=operators, servers=tuple(access.servers), ca=ca))
        )
        return token


def _identity(member: Member | None) -> tuple[str, str] | None:
    return None if member is None else (member.account, member.group)
