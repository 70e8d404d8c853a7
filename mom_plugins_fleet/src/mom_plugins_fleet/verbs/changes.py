"""Changes of the fleet's records, signed with the operator's key."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from difflib import unified_diff

import click
from pydantic import ValidationError

from mom_core import MomError, printable
from mom_plugins_fleet.link import Store
from mom_plugins_fleet.records import NAME, FleetRecord, Kind, first_wrong
from mom_plugins_fleet.signatures import AHEAD_SECONDS, Opened, next_revision, off_clock, opened
from mom_plugins_fleet.verbs.home import FleetHome


def named(key: str) -> str:
    """Return the name of a host or group. Raise `MomError` if invalid."""
    if not re.fullmatch(NAME, key):
        raise MomError(f"{printable(key)} is not a valid name of a host or group", hint="use at most 63 small letters, digits and -")
    return key


async def change(
    home: FleetHome, store: Store, kind: type[Kind], key: str, wanted: Callable[[Kind | None], Mapping[str, object]]
) -> Opened[Kind]:
    """Change, show and sign a record. Return the new record.

    :param wanted: returns the fields to change
    """
    named(key)
    await check_clock(store)
    kept = await store.read(kind.bucket, key)
    signed = _standing(home, kind, key, kept.data)
    before = None if signed is None else signed.record
    after = _edited(kind, before, wanted)
    show(key, before, after)
    return await sign(home, store, key, after, kept.revision)


async def sign(home: FleetHome, store: Store, key: str, record: Kind, stored: int, before: int = 0) -> Opened[Kind]:
    """Sign and store a record.

    :param stored: the servers' revision of the record to replace
    :param before: that record's own revision
    """
    signer, bucket = home.signer(), record.bucket
    data = signer.signed(key, record, next_revision(max(before, home.revisions.newest(bucket, key))))
    await store.put(bucket, key, data, stored)
    return home.revisions.open(type(record), key, data, {signer.public})


async def check_clock(store: Store) -> None:
    """Raise `MomError` if hosts would reject signatures with this clock."""
    off = off_clock(await store.clock())
    if off:
        raise MomError(
            f"nothing is signed, because the clock here is {off} the servers' clock",
            hint="check the clocks of this machine and of the servers",
        )


async def standing(home: FleetHome, store: Store, kind: type[Kind], key: str) -> Opened[Kind] | None:
    """Return the current record, if any. Raise `MomError` if it is untrusted or outdated."""
    return _standing(home, kind, named(key), (await store.read(kind.bucket, key)).data)


def _standing(home: FleetHome, kind: type[Kind], key: str, data: bytes | None) -> Opened[Kind] | None:
    if data is None:
        return None
    try:
        record = opened(kind, key, data, home.operators)
        # No host follows a record that is ahead of the clock: a change replaces it.
        return record if record.revision > time.time() + AHEAD_SECONDS else home.revisions.open(kind, key, data, home.operators)
    except MomError as error:
        raise MomError(f"{kind.bucket} {key}: {error.message}", hint=error.hint) from None


def _edited(kind: type[Kind], before: Kind | None, wanted: Callable[[Kind | None], Mapping[str, object]]) -> Kind:
    try:
        return kind.model_validate({**(before.model_dump() if before else {}), **wanted(before)})
    except ValidationError as error:
        raise MomError(f"{first_wrong(error)}: {printable(str(error.errors()[0]['input']), 100)}") from None


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
    return [f"{name}: {line}" for line in ("" if value is None else str(value)).splitlines()]
