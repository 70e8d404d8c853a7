"""Folder of an operator or a coordinator: addresses, certificates and keys; and changes of records, signed with its key."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import unified_diff
from functools import cached_property
from pathlib import Path
from typing import Final

import click
import nkeys  # type: ignore[import-untyped]  # untyped library
from pydantic import ValidationError

from mom_core import MomError, StateError, StateFile, printable, read_secret
from mom_plugins_fleet import signatures
from mom_plugins_fleet.accounts import FleetRoot, give
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.link import Answer, Store, ask
from mom_plugins_fleet.records import NAME, FleetRecord, Kind, first_wrong, whole_key
from mom_plugins_fleet.signatures import AHEAD_SECONDS, Opened, SeenRevisions, Signer, next_revision, off_clock, opened
from mom_plugins_fleet.view import FleetView

LOG: Final = logging.getLogger("mom.fleet")

ROOT, KEY, CREDENTIALS, OPERATORS, SERVERS, CA = "root.key", "sign.key", "connect.creds", "operators", "servers", "ca.pem"

_MAKE: Final = "`mom fleet init` or `mom fleet key` makes this folder; use --home for another folder"


@dataclass(frozen=True)
class FleetHome:
    """Folder with the files of `mom fleet init` or `mom fleet key`."""

    path: Path

    @property
    def access(self) -> Access:
        """Access to the servers."""
        ca = self.path / CA
        return Access(self._words(SERVERS), ca if ca.exists() else None, self.path / CREDENTIALS)

    @property
    def operators(self) -> frozenset[str]:
        """Public keys of the fleet's operators."""
        return frozenset(map(checked_key, self._words(OPERATORS)))

    def _words(self, name: str) -> list[str]:
        try:
            return (self.path / name).read_text().split()
        except (OSError, UnicodeDecodeError) as error:
            raise MomError(f"{self.path / name} cannot be read: {getattr(error, 'strerror', 'not text')}", hint=_MAKE) from None

    def signer(self) -> Signer:
        """Return a signer with this folder's key."""
        path = self.path / KEY
        try:
            return Signer(read_secret(path, "the signing key", _MAKE).decode().strip())
        except (nkeys.NkeysError, ValueError):
            raise MomError(f"{path} contains no NKEY user seed", hint=_MAKE) from None

    def root(self) -> FleetRoot:
        """Return the root key, which admits hosts and operators."""
        return FleetRoot(self.path / ROOT)

    @cached_property
    def revisions(self) -> SeenRevisions:
        """Revisions seen with this folder."""
        revisions = SeenRevisions(StateFile(self.path / signatures.FILE, signatures.WHAT, signatures.FORM, loss=signatures.LOSS))
        revisions.load()
        return revisions

    async def view(self, store: Store) -> FleetView:
        """Load a view of the fleet."""
        view = FleetView(self.operators, self.revisions)
        await view.load(store)
        return view

    def give(self, *accounts: str) -> None:
        """Push accounts to the servers."""
        access = self.access
        ask(Access(access.servers, access.ca, self.root().system_user()), "root", LOG, lambda store: give(store, *accounts))

    def ask(self, work: Callable[[Store], Awaitable[Answer]], *, patient: bool = False) -> Answer:
        """Connect, do the work, and save seen revisions if possible."""
        try:
            return ask(self.access, "operator", LOG, work, patient=patient)
        finally:
            with suppress(StateError):  # a user who may only read cannot save
                self.revisions.save()

    # --- signed changes --------------------------------------------------------------------------------------------------------

    async def change(self, store: Store, kind: type[Kind], key: str, wanted: Callable[[Kind | None], Mapping[str, object]]) -> Opened[Kind]:
        """Change, show and sign a record. Return the new record.

        :param wanted: returns the fields to change
        """
        named(key)
        await check_clock(store)
        kept = await store.read(kind.bucket, key)
        signed = self._standing(kind, key, kept.data)
        before = None if signed is None else signed.record
        after = _edited(kind, before, wanted)
        show(key, before, after)
        return await self.sign(store, key, after, kept.revision)

    async def sign(self, store: Store, key: str, record: Kind, stored: int, before: int = 0) -> Opened[Kind]:
        """Sign and store a record.

        :param stored: the servers' revision of the record to replace
        :param before: that record's own revision
        """
        signer, bucket = self.signer(), record.bucket
        data = signer.signed(key, record, next_revision(max(before, self.revisions.newest(bucket, key))))
        await store.put(bucket, key, data, stored)
        return self.revisions.open(type(record), key, data, {signer.public})

    async def standing(self, store: Store, kind: type[Kind], key: str) -> Opened[Kind] | None:
        """Return the current record, if any. Raise `MomError` if it is untrusted or outdated."""
        return self._standing(kind, named(key), (await store.read(kind.bucket, key)).data)

    def _standing(self, kind: type[Kind], key: str, data: bytes | None) -> Opened[Kind] | None:
        if data is None:
            return None
        try:
            record = opened(kind, key, data, self.operators)
            # No host follows a record that is ahead of the clock: a change replaces it.
            return record if record.revision > time.time() + AHEAD_SECONDS else self.revisions.open(kind, key, data, self.operators)
        except MomError as error:
            raise MomError(f"{kind.bucket} {key}: {error.message}", hint=error.hint) from None


def checked_key(key: str) -> str:
    """Return a public key. Raise `MomError` if the key is invalid."""
    try:
        return whole_key(key)
    except ValueError as error:
        raise MomError(f"{printable(key)} is {error}", hint="copy the key that `mom fleet key` printed") from None


def named(key: str) -> str:
    """Return the name of a host or group. Raise `MomError` if invalid."""
    if not re.fullmatch(NAME, key):
        raise MomError(f"{printable(key)} is not a valid name of a host or group", hint="use at most 63 small letters, digits and -")
    return key


async def check_clock(store: Store) -> None:
    """Raise `MomError` if hosts would reject signatures with this clock."""
    off = off_clock(await store.clock())
    if off:
        raise MomError(
            f"nothing is signed, because the clock here is {off} the servers' clock",
            hint="check the clocks of this machine and of the servers",
        )


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
