"""Where guests of several simulated hosts live, so that they can be moved: a folder for each host, and in it a file for each guest.

A guest is where its file is, and moving it is renaming that file: it is never in two places, nor in none, whichever process is killed when.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mom_core import HypervisorError, MomError, NotSupported, StateError, StateFile
from mom_kvm import Destination
from mom_plugins_sim.scene import GuestScene, Scene, mixture
from mom_plugins_sim.settings import SimSettings

LOG = logging.getLogger("mom.plugin.sim")

_STOCKED = "stocked"
"""Marks a host whose guests were put there once: those that it has lost since have moved away."""

_DRAWN = {"guests", "host_memory", "sold", "seed", "statistics_period", "silent", "rigid", "cold"}
"""The settings that guests are drawn from."""

SETTLED_NANOSECONDS = 100_000_000
"""Linux's file systems tell the times of changes to within a tick of the kernel's, 10 ms at most."""


class Shelf:
    """One host's place on the shelf.

    :param folder: the shelf; made when it is missing
    :param host: the host's name
    """

    def __init__(self, folder: Path, host: str) -> None:
        self._folder = folder
        self._own = folder / host
        self._drawn: dict[SimSettings, Mapping[str, GuestScene]] = {}
        self._changed = -1
        self.host = host

    def stocked(self, settings: SimSettings) -> Scene:
        """The scene of these settings with the guests that are here now; the first time, those of the settings. Raises `MomError`."""
        scene = mixture(settings)
        origin = settings.model_dump(mode="json", include=_DRAWN)
        try:
            self._own.mkdir(parents=True, exist_ok=True)
            if not (self._own / _STOCKED).exists():
                for guest in scene.guests:
                    self._file(guest.identity).write(origin, durable=False)
                (self._own / _STOCKED).touch()
            return replace(scene, guests=[*self.guests(self._names())])
        except OSError as error:
            hint = "give shelf a folder that can be written"
            raise MomError(f"the shelf {self._own} cannot be used: {error.strerror}", hint=hint) from None

    def news(self) -> frozenset[str] | None:
        """The ids of the guests that are here; None when nothing has changed since this was asked last."""
        try:
            changed = self._own.stat().st_mtime_ns
            if changed == self._changed:
                return None
            # Until the clock of the file system has moved on, another change may come that looks like the one before.
            self._changed = changed if time.time_ns() - changed > SETTLED_NANOSECONDS else -1
            return frozenset(self._names())
        except OSError as error:
            raise HypervisorError(f"the shelf {self._own} cannot be read: {error.strerror}") from None

    def guests(self, identities: Iterable[str]) -> Iterator[GuestScene]:
        """Those of these guests that are here. One whose file is damaged is left out, which the log says."""
        for identity in identities:
            try:
                yield self._read(identity)
            except StateError as error:
                LOG.error("%s; the guest is left out", error)

    def move(self, identity: str, destination: Destination) -> None:
        """Put a guest on the place of that host, which is addressed as a real one is. Raises `NotSupported` when there is none, and
        `HypervisorError` where a guest of its id is there already."""
        name = destination.host
        there = self._folder / name
        if name == self.host or not (there / _STOCKED).exists():
            raise NotSupported(f"there is no other simulated host {destination} on the shelf")
        if (there / f"{identity}.json").exists():  # renamed onto it, one of the two would be gone
            raise HypervisorError(f"{name} has a guest of the same id: give each host on the shelf a `seed` of its own")
        try:
            (self._own / f"{identity}.json").rename(there / f"{identity}.json")
        except OSError as error:
            raise HypervisorError(f"the guest cannot be moved to {destination}: {error.strerror}") from None

    def _names(self) -> Sequence[str]:
        return sorted(path.stem for path in self._own.glob("*.json"))

    def _file(self, identity: str) -> StateFile[SimSettings]:
        return StateFile(self._own / f"{identity}.json", "the file of a guest on the shelf", SimSettings.model_validate)

    def _read(self, identity: str) -> GuestScene:
        """Who it is and what it does follows from the settings that it was drawn by. Raises `StateError`."""
        file = self._file(identity)
        settings = file.look()
        if settings is None:
            raise StateError(f"the guest {identity} is not on the shelf {self._own} any more")
        if settings not in self._drawn:
            self._drawn[settings] = {guest.identity: guest for guest in mixture(settings).guests}
        try:
            return self._drawn[settings][identity]
        except KeyError:
            raise StateError(f"by {file.path} there is no such guest", hint="give the file its name back") from None
