"""`mom fleet enroll`: let a host in, or change its group, address, memory or key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from mom_core import MomError, parse_size
from mom_daemon import print_prose
from mom_kvm import Destination
from mom_plugins_fleet.accounts import ACCOUNT, host_credentials, new_seed, write_secret
from mom_plugins_fleet.invitation import Invitation, Token
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import MOST_EARLIER, Member
from mom_plugins_fleet.signatures import Opened, next_revision
from mom_plugins_fleet.subjects import GROUPS, INVITATIONS, ROSTER
from mom_plugins_fleet.verbs.changes import agree, change, change_group, check_clock, checked, named, standing, who
from mom_plugins_fleet.verbs.where import Where


@click.command("enroll")
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
