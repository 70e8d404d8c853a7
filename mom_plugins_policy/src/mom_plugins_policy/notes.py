"""Notes of policies on entities, kept across cycles and restarts (`Remember`, `Recall`), so that they can have hysteresis."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from mom_core import HOST_ID, Guest, MomError, Snapshot, StateError, StateFile, Value
from mom_plugins_policy.language.policy import Policy, Result

_ABSENCES = 60
"""Evaluations for which the notes on an absent guest are kept where its return can be told from a new start (five minutes at 5 s)."""


Scalar = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class KeptNotes:
    """The notes on one entity as they are kept: on which incarnation of it, and by their names."""

    incarnation: str
    values: dict[str, Scalar | list[Scalar]]


NOTES: Final = TypeAdapter(dict[str, KeptNotes])
"""By the entity's id."""

BEGIN_ANEW: Final = "policies began without notes"
"""Words for what it means that they are lost."""


class NoteStore:
    """Notes in memory and, from one cycle to the next, in a file.

    The notes on a guest go with it: when it is started anew (another `incarnation`), or when it is not there. If the hypervisor tells
    incarnations, a guest may be away for a while (as all are while the hypervisor restarts) and is still the same when it returns.

    :param file: where they are kept; None: they last until mom ends
    """

    def __init__(self, file: StateFile[dict[str, KeptNotes]] | None = None) -> None:
        self._file = file
        self._notes: dict[str, dict[str, Any]] = {}
        self._incarnations: dict[str, str] = {}
        self._absent: dict[str, int] = {}
        self._looked_at: Sequence[Guest] | None = None
        """The guests among which those with notes were looked for last."""
        self._unwritten = False

    def load(self) -> None:
        """Read what is on disk. A damaged file is set aside, and mom says so."""
        self._take((self._file.read() if self._file is not None else None) or {})

    def memory(self) -> dict[str, Value]:
        """All notes, and whose they are: what `set_memory` takes."""
        return {identity: {"incarnation": self._incarnations[identity], "values": values} for identity, values in self._notes.items()}

    def set_memory(self, memory: Value) -> None:
        """Have these notes and no others. Raises `MomError` for anything but notes, and keeps what was there."""
        try:
            self._take(NOTES.validate_python(memory))
        except ValidationError as error:
            raise MomError(f"these are no notes: {error}", hint="give what `memory` gave") from error
        self._unwritten = True

    def _take(self, kept: Mapping[str, KeptNotes]) -> None:
        self._notes = {identity: one.values for identity, one in kept.items()}
        self._incarnations = {identity: one.incarnation for identity, one in kept.items()}
        self._absent, self._looked_at = {}, None

    def evaluate(self, policy: Policy, snapshot: Snapshot, history: Sequence[Snapshot]) -> Result:
        """One evaluation that finds these notes, and leaves its own."""
        if snapshot.listed is not self._looked_at or self._absent:
            self._forget_gone(snapshot)
        # As they are now, whatever becomes of them afterwards: those on an entity are replaced as a whole when one changes.
        result = policy.evaluate(snapshot, history, dict(self._notes))
        self._keep(result.notes, snapshot)
        return result

    def _forget_gone(self, snapshot: Snapshot) -> None:
        """Drop the notes on guests that are gone or were started anew."""
        self._looked_at = snapshot.listed
        for identity, incarnation in list(self._incarnations.items()):
            guest = snapshot.guests.get(identity)
            if identity == HOST_ID or (guest is not None and guest.incarnation == incarnation):
                self._absent.pop(identity, None)
                continue
            absent = self._absent[identity] = self._absent.get(identity, 0) + 1
            if guest is not None or not incarnation or absent >= _ABSENCES:
                self._drop(identity)

    def _keep(self, notes: Mapping[str, Mapping[str, Any]], snapshot: Snapshot) -> None:
        """Take in the notes of an evaluation, nil forgetting, and write to disk what has changed."""
        for identity, values in notes.items():
            there = self._notes.get(identity, {})
            now = {name: value for name, value in {**there, **values}.items() if value is not None}
            if now == there and all(type(now[name]) is type(there[name]) for name in now):
                continue
            self._drop(identity)
            if now:
                self._notes[identity] = now
                self._incarnations[identity] = "" if identity == HOST_ID else snapshot.guests[identity].incarnation
        if self._unwritten and self._file is not None:
            with contextlib.suppress(StateError):  # tried again in the next cycle; mom says what is wrong with the file
                self._file.write(self.memory())
                self._unwritten = False

    def _drop(self, identity: str) -> None:
        for kept in (self._notes, self._incarnations, self._absent):
            kept.pop(identity, None)
        self._unwritten = True
