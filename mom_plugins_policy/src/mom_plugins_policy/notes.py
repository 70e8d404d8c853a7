"""Notes of policies on entities, kept across cycles and restarts (`Remember`, `Recall`), so that they can have hysteresis."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydantic import TypeAdapter

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
        self._unwritten: set[str] = set()
        """The ids of entities on which the notes in the file are not these."""

    def load(self) -> None:
        """Read what is on disk. A damaged file is set aside, and mom says so."""
        kept = None if self._file is None else self._file.read()
        if kept is not None:
            self._take({identity: asdict(one) for identity, one in kept.items()})

    def memory(self) -> dict[str, Value]:
        """All notes, and whose they are: what `set_memory` takes."""
        return {
            identity: {"incarnation": self._incarnations.get(identity, ""), "values": values} for identity, values in self._notes.items()
        }

    def set_memory(self, memory: Value) -> None:
        """Have these notes and no others. Raises `MomError` for anything but notes, and keeps what was there."""
        before = self._notes.keys()
        try:
            self._take(memory)
        except Exception as error:  # a checker of something that may be anything
            raise MomError(f"these are no notes: {error}", hint="give what `memory` gave") from error
        self._unwritten |= before | self._notes.keys()

    def _take(self, entries: Any) -> None:
        notes = {str(identity): dict(entry["values"]) for identity, entry in entries.items()}
        self._incarnations = {str(identity): str(entry["incarnation"]) for identity, entry in entries.items()}
        self._notes, self._absent, self._looked_at = notes, {}, None

    def evaluate(self, policy: Policy, snapshot: Snapshot, history: Sequence[Snapshot]) -> Result:
        """One evaluation that finds these notes, and leaves its own."""
        self._forget_gone(snapshot)
        # As they are now, whatever becomes of them afterwards: those on an entity are replaced as a whole when one changes.
        result = policy.evaluate(snapshot, history, dict(self._notes))
        self._keep(result.notes, snapshot)
        return result

    def _forget_gone(self, snapshot: Snapshot) -> None:
        """Before an evaluation: drop the notes on guests that are gone or were started anew."""
        if snapshot.listed is self._looked_at and not self._absent:
            return  # the very same guests as in the last cycle, and all were there
        self._looked_at = snapshot.listed
        gone = []
        for identity, known in self._incarnations.items():
            guest = snapshot.guests.get(identity)
            if guest is not None and guest.incarnation == known:
                if self._absent:
                    self._absent.pop(identity, None)
            elif guest is not None and identity != HOST_ID:
                gone.append(identity)
            elif identity != HOST_ID:
                absent = self._absent[identity] = self._absent.get(identity, 0) + 1
                if not known or absent >= _ABSENCES:
                    gone.append(identity)
        for identity in gone:
            self._drop(identity)

    def _keep(self, notes: Mapping[str, Mapping[str, Any]], snapshot: Snapshot) -> None:
        """After an evaluation: take in its notes, nil forgetting, and write to disk what has changed."""
        for identity, values in notes.items():
            there = self._notes.get(identity, {})
            now = {name: value for name, value in {**there, **values}.items() if value is not None}
            if now == there and all(type(now[name]) is type(there[name]) for name in now):
                continue
            if now:
                if snapshot.listed is not self._looked_at:
                    self._looked_at = None
                self._notes[identity] = now
                self._incarnations[identity] = "" if identity == HOST_ID else snapshot.guests[identity].incarnation
                self._unwritten.add(identity)
            else:
                self._drop(identity)
        if self._unwritten:
            self._write()

    def _drop(self, identity: str) -> None:
        self._notes.pop(identity, None)
        self._incarnations.pop(identity, None)
        self._absent.pop(identity, None)
        self._unwritten.add(identity)

    def _write(self) -> None:
        if self._file is None:
            self._unwritten.clear()
            return
        with contextlib.suppress(StateError):  # tried again in the next cycle; mom says what is wrong with the file
            self._file.write(self.memory())
            self._unwritten.clear()
