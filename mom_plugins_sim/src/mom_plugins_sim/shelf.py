"""Shelf of simulated hosts whose guests can migrate: a folder for each host, with a file for each guest.

Migration renames the file, so a killed process can neither duplicate nor lose a guest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mom_core import HypervisorError, MomError, NotSupported, StateError, StateFile
from mom_kvm import Destination
from mom_plugins_sim.scene import GuestScene, Scene, SimSettings, mixture

LOG = logging.getLogger("mom.plugin.sim")

_STOCKED = "stocked"
"""File that marks a host whose first guests were written. A guest whose file is missing afterwards has migrated."""

_DRAWN = {"guests", "host_memory", "sold", "seed", "statistics_period", "silent", "rigid", "cold"}


class Shelf:
    """One simulated host's folder on the shelf.

    :param folder: the shelf; created if it is missing
    :param host: name of the host and of its folder
    """

    def __init__(self, folder: Path, host: str) -> None:
        self._folder = folder
        self._own = folder / host
        self._drawn: dict[SimSettings, Mapping[str, GuestScene]] = {}
        self._last: frozenset[str] = frozenset()
        self.host = host

    def scene(self, settings: SimSettings) -> Scene:
        """Return the scene with the guests that are on this host now. Raise `MomError` if the shelf is unusable."""
        drawn = mixture(settings)
        origin = settings.model_dump(mode="json", include=_DRAWN)
        try:
            self._own.mkdir(parents=True, exist_ok=True)
            if not (self._own / _STOCKED).exists():
                for guest in drawn.guests:
                    self._file(guest.identity).write(origin, durable=False)
                (self._own / _STOCKED).touch()
            return replace(drawn, guests=[*self.guests(self._names())])
        except OSError as error:
            hint = "set shelf to a writable folder"
            raise MomError(f"cannot use {self._own}, this host's folder on the shelf: {error.strerror}", hint=hint) from None

    def changed_guests(self) -> frozenset[str] | None:
        """Return the ids of this host's guests; None if nothing has changed since the last call."""
        try:
            names = frozenset(self._names())
        except OSError as error:
            raise HypervisorError(f"cannot read {self._own}, this host's folder on the shelf: {error.strerror}") from None
        before, self._last = self._last, names
        return None if names == before else names

    def guests(self, identities: Iterable[str]) -> Iterator[GuestScene]:
        """Read the guests with these ids. Log and skip damaged files."""
        for identity in identities:
            try:
                yield self._read(identity)
            except StateError as error:
                LOG.error("%s; mom ignores the guest", error)

    def move(self, identity: str, destination: Destination) -> None:
        """Move a guest to another host. Raise `NotSupported` for an unknown host, or `HypervisorError` if the guest's id exists there."""
        name = destination.host
        target = self._folder / name
        if name == self.host or not (target / _STOCKED).exists():
            raise NotSupported(f"there is no other simulated host {destination} on the shelf")
        if (target / f"{identity}.json").exists():  # renaming would overwrite it
            raise HypervisorError(f"{name} has a guest of the same id: set a different `seed` for each host on the shelf")
        try:
            (self._own / f"{identity}.json").rename(target / f"{identity}.json")
        except OSError as error:
            raise HypervisorError(f"the guest cannot be moved to {destination}: {error.strerror}") from None

    def _names(self) -> Sequence[str]:
        return sorted(path.stem for path in self._own.iterdir() if path.suffix == ".json")

    def _file(self, identity: str) -> StateFile[SimSettings]:
        return StateFile(self._own / f"{identity}.json", "the file of a guest on the shelf", SimSettings.model_validate)

    def _read(self, identity: str) -> GuestScene:
        file = self._file(identity)
        settings = file.look()
        if settings is None:
            raise StateError(f"the guest {identity} is no longer on the shelf {self._own}")
        if settings not in self._drawn:
            self._drawn[settings] = {guest.identity: guest for guest in mixture(settings).guests}
        try:
            return self._drawn[settings][identity]
        except KeyError:
            raise StateError(f"{file.path} describes another guest than the one in its file name", hint="restore the file's name") from None
