"""What policies remember about entities across cycles and restarts (`Remember`, `Recall`), so that they can have hysteresis."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple, Protocol

from pydantic import TypeAdapter

from mom_core import HOST_ID, MomError, Snapshot, StateError, StateFile, Value

_NOTHING: Mapping[str, Any] = {}
_ABSENCES = 60
"""Evaluations for which the notes on an absent guest are kept where its return can be told from a new start (five minutes at 5 s)."""


class Notes(Protocol):
    """Where an evaluation finds what earlier ones remembered."""

    def of(self, identity: str) -> Mapping[str, Any]:
        """The notes on an entity, by name."""


Scalar = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class KeptNotes:
    """The notes on one entity as they are kept: on which incarnation of it, and by their names."""

    incarnation: str
    values: dict[str, Scalar | list[Scalar]]


NOTES: Final = TypeAdapter(dict[str, KeptNotes])
"""By the entity's id."""

BEGIN_ANEW: Final = "policies began without notes"
"""What it means that they are lost."""


class _Text(NamedTuple):
    """Notes on one entity, and how they stand in the file."""

    values: Mapping[str, Any]
    written: str


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
        self._unwritten = False
        self._texts: dict[str, _Text] = {}

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
        try:
            self._take(memory)
        except Exception as error:  # a checker of something that may be anything
            raise MomError(f"these are no notes: {error}", hint="give what `memory` gave") from error
        self._unwritten = True

    def _take(self, entries: Any) -> None:
        notes = {str(identity): dict(entry["values"]) for identity, entry in entries.items()}
        self._incarnations = {str(identity): str(entry["incarnation"]) for identity, entry in entries.items()}
        self._notes, self._absent = notes, {}

    def of(self, identity: str) -> Mapping[str, Any]:
        """The notes on an entity, by name."""
        return self._notes.get(identity, _NOTHING)

    def forget_gone(self, snapshot: Snapshot) -> None:
        """Before an evaluation: drop the notes on guests that are gone or were started anew."""
        for identity in list(self._notes):
            if identity == HOST_ID:
                continue
            guest = snapshot.guests.get(identity)
            known = self._incarnations.get(identity, "")
            if guest is None:
                self._absent[identity] = self._absent.get(identity, 0) + 1
                if known and self._absent[identity] < _ABSENCES:
                    continue
            elif guest.incarnation == known:
                self._absent.pop(identity, None)
                continue
            self._drop(identity)

    def keep(self, notes: Mapping[str, Mapping[str, Any]], snapshot: Snapshot) -> None:
        """After an evaluation: take in its notes, nil forgetting, and write to disk what has changed."""
        for identity, values in notes.items():
            there = self._notes.get(identity, {})
            now = {name: value for name, value in {**there, **values}.items() if value is not None}
            if now == there and all(type(now[name]) is type(there[name]) for name in now):
                continue
            if now:
                self._notes[identity] = now
                self._incarnations[identity] = "" if identity == HOST_ID else snapshot.guests[identity].incarnation
                self._unwritten = True
            else:
                self._drop(identity)
        if self._unwritten:
            self._write()

    def _drop(self, identity: str) -> None:
        self._notes.pop(identity, None)
        self._incarnations.pop(identity, None)
        self._absent.pop(identity, None)
        self._unwritten = True

    def _write(self) -> None:
        if self._file is None:
            self._unwritten = False
            return
        with contextlib.suppress(StateError):  # tried again in the next cycle; mom says what is wrong with the file
            self._file.write_members(self._texts_of_all())
            self._unwritten = False

    def _texts_of_all(self) -> Iterable[str]:
        """What stands in the file of each entity. What notes have become is another mapping: of those that stay, the text is kept."""
        texts = self._texts
        for identity, values in self._notes.items():
            text = texts.get(identity)
            if text is None or text.values is not values:
                kept = {"incarnation": self._incarnations.get(identity, ""), "values": values}
                texts[identity] = text = _Text(values, StateFile.as_json({identity: kept})[1:-1])
            yield text.written
        if len(texts) > len(self._notes):
            self._texts = {identity: texts[identity] for identity in self._notes}
