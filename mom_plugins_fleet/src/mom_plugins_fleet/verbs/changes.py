"""Changes of the fleet's records, signed with the operator's key."""

from __future__ import annotations

import getpass
import re
import socket
import sys
from collections.abc import Callable, Mapping
from difflib import unified_diff
from typing import Final

import click
from pydantic import ValidationError

from mom_core import MomError, format_kib, printable
from mom_plugins_fleet.link import ConflictError, Store
from mom_plugins_fleet.records import NAME, FleetRecord, Kind, first_wrong
from mom_plugins_fleet.revisions import off_clock
from mom_plugins_fleet.signatures import Opened, next_revision, opened
from mom_plugins_fleet.verbs.where import Where

_ATTEMPTS: Final = 20


def named(key: str) -> str:
    """Return the name of a host or group. Raise `MomError` if invalid."""
    if not re.fullmatch(NAME, key):
        raise MomError(f"{printable(key)} is not a valid name of a host or group", hint="use at most 63 small letters, digits and -")
    return key


async def change(
    where: Where,
    store: Store,
    kind: type[Kind],
    key: str,
    wanted: Callable[[Kind | None], Mapping[str, object]],
    agreed: Kind | None = None,
) -> int:
    """Change and sign a record. Return the new revision.

    :param wanted: returns the fields to change
    :param agreed: record already passed to `agree`
    """
    named(key)
    await check_clock(store)
    signer, revisions, trusted, bucket = where.signer(), where.revisions, where.operators(), kind.bucket
    for _ in range(_ATTEMPTS):
        kept = await store.read(bucket, key)
        before = opened_by(where, kind, key, kept.data)
        after = edited(kind, None if before is None else before.record, wanted)
        revisions.save()  # before the record is used
        if after != agreed:
            agree(where, key, before, after)
        revision = next_revision(revisions.newest(bucket, key, trusted))
        data = signer.signed(key, after, revision)
        try:
            await store.put(bucket, key, data, kept.revision)
        except ConflictError:
            continue
        revisions.open(kind, key, data, trusted)
        revisions.made(bucket, key)
        return revision
    raise MomError("other clients keep changing this record", hint="try again")


async def check_clock(store: Store) -> None:
    """Raise `MomError` if hosts would reject signatures with this clock."""
    off = off_clock(await store.clock())
    if off:
        raise MomError(
            f"nothing is signed, because the clock here is {off} the servers' clock",
            hint="check the clocks of this machine and of the servers",
        )


async def standing(where: Where, store: Store, kind: type[Kind], key: str) -> Opened[Kind] | None:
    """Return the current record. Raise the errors of `opened_by`."""
    return opened_by(where, kind, key, (await store.read(kind.bucket, key)).data)


def opened_by(where: Where, kind: type[Kind], key: str, data: bytes | None) -> Opened[Kind] | None:
    """Open a record, if any. Raise `MomError` if it is untrusted or, without --anew, outdated or missing."""
    trusted, bucket = where.operators(), kind.bucket
    if data is None:
        if where.revisions.stood(bucket, key, trusted) and not where.anew:
            hint = "use `mom fleet --anew` if another operator removed the record or the servers are new; otherwise a server is hiding it"
            raise MomError(f"{bucket} {key} is missing, but existed when it was last read", hint=hint)
        return None
    newest = where.revisions.newest(bucket, key, trusted)
    try:
        if where.anew and (outdated := opened(kind, key, data, trusted)).revision <= newest:
            return outdated
        return where.revisions.open(kind, key, data, trusted)
    except MomError as error:
        hint = error.hint
        if "trusted" in error.message:
            hint = "give the operator's key with `mom fleet --operator KEY`; if that key was revoked, run `mom fleet countersign KEY`"
        elif newest and "ahead of the clock" not in error.message:
            hint = "use `mom fleet --anew` if the servers were restored from a backup; otherwise the servers sent an outdated record"
        raise MomError(f"{bucket} {key}: {error.message}", hint=hint) from None


def edited(kind: type[Kind], before: Kind | None, wanted: Callable[[Kind | None], Mapping[str, object]]) -> Kind:
    """Return the record that `wanted` makes from `before`. Raise `MomError` if that is invalid."""
    try:
        return kind.model_validate({**(before.model_dump() if before else {}), **wanted(before), "by": who()})
    except ValidationError as error:
        raise MomError(f"{first_wrong(error)}: {printable(str(error.errors()[0]['input']), 100)}") from None


def who() -> str:
    """Return this terminal's user, for display only."""
    return f"{getpass.getuser()} on {socket.gethostname()}"


def agree(where: Where, key: str, before: Opened[Kind] | None, after: Kind) -> None:
    """Show a record to sign. If this machine has not seen it before, ask for confirmation."""
    is_new = where.anew or where.revisions.is_new(after.bucket, key)
    show(key, None if before is None or is_new else before.record, after)
    if before is not None and is_new:
        ask_a_person("This version of the record was not seen here before. Sign it?")


def show(key: str, before: FleetRecord | None, after: FleetRecord) -> None:
    """Show a record, or only its changes since `before`."""
    lines = [line for line in [*unified_diff(_told(before), _told(after), n=0, lineterm="")][2:] if not line.startswith("@@")]
    click.echo("\n".join([f"{after.bucket} {key}:", *(f"  {line[0]} {printable(line[1:], 2000)}" for line in lines)]), err=True)


def ask_a_person(question: str) -> None:
    """Ask for confirmation at a terminal. Raise `MomError` if the answer is no."""
    if sys.stdin.isatty() and not click.confirm(question, err=True):
        raise MomError("nothing was signed")


def _told(value: object, name: str = "") -> list[str]:
    if isinstance(value, FleetRecord):
        value = {field: getattr(value, field) for field in type(value).model_fields if field in value.model_dump(exclude_defaults=True)}
    if isinstance(value, Mapping):
        return [line for key, inner in value.items() for line in _told(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [line for inner in value for line in _told(inner, name)]
    if isinstance(value, int) and name == "memory":  # KiB are hard to read
        value = f"{value} KiB ({format_kib(value)})"
    return [f"{name}: {line}" for line in ("" if value is None else str(value)).splitlines()]
