"""Folder of an operator or a coordinator: addresses, certificates and keys."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import nkeys  # type: ignore[import-untyped]  # untyped library

from mom_core import MomError, StateError, StateFile, printable, read_secret
from mom_plugins_fleet.accounts import FleetRoot, give
from mom_plugins_fleet.client import Access
from mom_plugins_fleet.link import Answer, Store, ask
from mom_plugins_fleet.records import whole_key
from mom_plugins_fleet.signatures import FILE, FORM, LOSS, WHAT, SeenRevisions, Signer
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
        revisions = SeenRevisions(StateFile(self.path / FILE, WHAT, FORM, loss=LOSS))
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


def checked_key(key: str) -> str:
    """Return a public key. Raise `MomError` if the key is invalid."""
    try:
        return whole_key(key)
    except ValueError as error:
        raise MomError(f"{printable(key)} is {error}", hint="copy the key that `mom fleet key` printed") from None
