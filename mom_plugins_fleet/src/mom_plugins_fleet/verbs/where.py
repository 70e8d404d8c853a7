"""Servers and keys for `mom fleet`, from options or configuration."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mom_core import MomError, StateError, StateFile, load_config, printable
from mom_plugins_fleet.access import Access, signing_seed
from mom_plugins_fleet.accounts import FleetRoot, give
from mom_plugins_fleet.link import Answer, Store, ask
from mom_plugins_fleet.records import whole_key
from mom_plugins_fleet.revisions import FORM, LOSS, SeenRevisions
from mom_plugins_fleet.signatures import Signer
from mom_plugins_fleet.verbs.server_setup import CA, OPERATOR, ROOT, SERVERS
from mom_plugins_fleet.view import FleetView

if TYPE_CHECKING:
    from mom_plugins_fleet.plugin import FleetPlugin

LOG: Final = logging.getLogger("mom.fleet")

WHAT: Final = "the file of the fleet's revisions that this key has seen"


@dataclass
class Where:
    """Servers that a command connects to, its keys, and the operators that it trusts."""

    servers: Sequence[str] = ()
    key: str | None = None
    ca: str | None = None
    config: str | None = None
    named: Sequence[str] = ()
    root_file: Path | None = None
    anew: bool = False
    home: Path = Path("/etc/mom/fleet")
    _revisions: SeenRevisions | None = None

    def __post_init__(self) -> None:
        for key in self.named:
            checked_key(key)
        self.home = self.home.absolute()  # files made there refer to each other by absolute path
        self.look_at_home()

    def look_at_home(self) -> None:
        """Use the files of `mom fleet init`, unless a server is named."""
        if not self.servers and os.access(self.home / SERVERS, os.R_OK):
            self.servers = (self.home / SERVERS).read_text().split()
            self.ca, self.key = self.ca or str(self.home / CA), self.key or str(self.home / OPERATOR)
            kept = self.home / ROOT
            self.root_file = self.root_file or (kept if os.access(kept, os.R_OK) else None)

    def access(self) -> Access:
        """Return access to the servers. Raise `MomError` if no server is named."""
        servers, ca = list(self.servers), None if self.ca is None else Path(self.ca)
        if not servers:
            settings = self._settings()
            servers, ca = list(settings.servers), ca or settings.ca
        return Access(servers, ca, None if self.key is None else Path(self.key))

    def _settings(self) -> FleetPlugin.Settings:
        from mom_plugins_fleet.plugin import FleetPlugin

        try:
            config = load_config(self.config)
        except MomError as error:
            raise MomError(f"the fleet's servers are unknown: {error.message}", hint="use --server tls://HOST:4222") from None
        plugins = [plugin.settings for plugin in config.plugins.values() if isinstance(plugin.settings, FleetPlugin.Settings)]
        if not plugins:
            raise MomError("the fleet's servers are unknown: the configuration has no fleet plugin", hint="use --server tls://HOST:4222")
        return plugins[0]

    def signer(self) -> Signer:
        """Return a signer. Raise `MomError` without an operator's key."""
        if self.key is None:
            raise MomError("this command signs records, and no operator's key is given", hint="use --key FILE; `mom fleet key` makes one")
        seed = signing_seed(Path(self.key))
        if seed is None:
            raise MomError(
                f"the key in {self.key} only connects to the servers, but this command needs an operator's key to sign records",
                hint="`mom fleet --root FILE key FILE` makes both keys",
            )
        return Signer(seed)

    def operators(self) -> frozenset[str]:
        """Return this operator's key and the named operators' keys."""
        seed = None if self.key is None else signing_seed(Path(self.key))
        return self.named_operators() | ({Signer(seed).public} if seed else set())

    def named_operators(self) -> frozenset[str]:
        """Return keys from --operator and, without --server, the configuration."""
        return frozenset({*self.named} | (set() if self.servers else {*self._settings().operators}))

    @property
    def revisions(self) -> SeenRevisions:
        """Revisions seen with this key, stored in the key's folder."""
        if self._revisions is None:
            self._revisions = self.revisions_as("fleet-revisions")
        return self._revisions

    def revisions_as(self, name: str) -> SeenRevisions:
        """Return the revisions stored in the file `name`."""
        if self.key is None:
            return SeenRevisions(at_once=False)
        path = Path(self.key)
        revisions = SeenRevisions(StateFile(path.with_name(f"{name}.{path.stem}.json"), WHAT, FORM, loss=LOSS), at_once=False)
        revisions.load()
        return revisions

    async def view(self, store: Store) -> FleetView:
        """Load a view of the fleet."""
        view = FleetView(self.operators(), self.revisions)
        await view.load(store)
        return view

    def root(self) -> FleetRoot:
        """Return the root key. Raise `MomError` without it."""
        if self.root_file is None:
            raise MomError("this command needs the fleet's root key, and none is given", hint="use --root FILE, or set MOM_FLEET_ROOT")
        return FleetRoot(self.root_file)

    def give(self, *accounts: str) -> None:
        """Push accounts to the servers."""

        async def give_all(store: Store) -> None:
            for account in accounts:
                await give(store, account)

        ask(replace(self.access(), key=self.root().system_user()), "root", LOG, give_all)

    def ask(self, what: Callable[[Store], Awaitable[Answer]], *, patient: bool = False) -> Answer:
        """Connect, do the work, and save seen revisions if possible."""
        try:
            return ask(self.access(), "operator", LOG, what, patient=patient)
        finally:
            if self._revisions is not None:
                with suppress(StateError):
                    self._revisions.save()


def checked_key(key: str) -> str:
    """Return a public key. Raise `MomError` if the key is invalid."""
    try:
        return whole_key(key)
    except ValueError as error:
        raise MomError(f"{printable(key)} is {error}", hint="copy the key that `mom fleet key` printed") from None
