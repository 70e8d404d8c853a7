"""Which guests were stopped here, on disk: the mom after a crash knows which to let go on."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Final

from pydantic import FailFast, TypeAdapter

from mom_core import LedgerEntry, StateError, StateFile
from mom_plugins_eviction.ladder import Stopped
from mom_plugins_eviction.steps import Step

FILE: Final = "stopped.json"
WHAT: Final = "the file of guests that mom has stopped"
LOSS: Final = "those that are saved or shut down stay so: start them by hand"
FORM: Final = TypeAdapter(Annotated[tuple[Stopped, ...], FailFast()])


class Remembered:
    """The guests that were stopped, first to last. Each change is on disk when it returns. For several threads.

    :param file: where they are kept
    """

    def __init__(self, file: StateFile[tuple[Stopped, ...]]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._stopped: Mapping[str, Stopped] = {}
        self.unwritten = False
        """Whether the file says something else, because the disk did not take the last change."""

    def load(self, changes: Collection[LedgerEntry]) -> None:
        """Read what an earlier run has left.

        :param changes: what the ledger holds: where there is no file, or none that can be used, it still knows whom mom has paused
        """
        with self._lock:
            found = self._file.read()
            if found is None:
                found = tuple(_paused(entry) for entry in changes if entry.control == Step.PAUSE.control and entry.applied == 1)
            self._stopped = {one.identity: one for one in found}

    @property
    def stopped(self) -> Sequence[Stopped]:
        """First to last."""
        return tuple(self._stopped.values())

    def get(self, identity: str) -> Stopped | None:
        """What was done to that guest."""
        return self._stopped.get(identity)

    def add(self, one: Stopped) -> None:
        """Before it is done. Raises `StateError`: then it must not be done."""
        with self._lock:
            self._write({**self._stopped, one.identity: one})

    def done(self, identity: str) -> None:
        """It has stopped. Raises `StateError`, and knows it nevertheless, until it ends."""
        with self._lock:
            one = self._stopped.get(identity)
            if one is not None and not one.done:
                self._change({**self._stopped, identity: replace(one, done=True)})

    def remove(self, identity: str) -> None:
        """It goes on. Raises `StateError`, and knows it nevertheless, until it ends."""
        with self._lock:
            if identity in self._stopped:
                self._change({key: one for key, one in self._stopped.items() if key != identity})

    def write_again(self) -> None:
        """Write what the disk did not take before. Raises `StateError`."""
        with self._lock:
            if self.unwritten:
                self._write(self._stopped)

    def _change(self, stopped: Mapping[str, Stopped]) -> None:
        try:
            self._write(stopped)
        except StateError:
            self._stopped, self.unwritten = stopped, True
            raise

    def _write(self, stopped: Mapping[str, Stopped]) -> None:
        self._file.write([asdict(one) for one in stopped.values()])
        self._stopped, self.unwritten = stopped, False


def _paused(entry: LedgerEntry) -> Stopped:
    """What needs nothing to go on: a guest that is paused has its memory still."""
    return Stopped(entry.entity.id, entry.entity.name, Step.PAUSE, 0.0, done=True, time=entry.time)
