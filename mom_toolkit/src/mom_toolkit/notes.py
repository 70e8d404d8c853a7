"""Notes of policies on the host and on guests, kept across cycles and restarts, so that policies can have hysteresis."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from mom_core import HOST_ID, MomError, PluginContext, Snapshot, StateError, StateFile, Value

_ABSENCES: Final = 60
"""Evaluations for which the notes on an absent guest are kept where its return can be told from a new start (five minutes at 5 s)."""

Scalar = bool | int | float | str | None


@dataclass(slots=True)
class KeptNotes:
    """The notes on one entity: on which incarnation of it, and for how many evaluations it has been absent."""

    incarnation: str
    values: dict[str, Scalar | list[Scalar]]
    absent: int = field(default=0, init=False)


_NOTES: Final = TypeAdapter(dict[str, KeptNotes])


class NoteStore:
    """Notes in memory and, from one cycle to the next, in a file of state.

    The notes on a guest go with it: when it is started anew (another `incarnation`), or when it is not there. If the hypervisor tells
    incarnations, a guest may be away for a while (as all are while the hypervisor restarts) and is still the same when it returns.

    :param context: of the plugin in whose folder they are kept; None: they last until mom ends
    :param file: the file's name
    :param whose: whose notes they are, in words, such as `policies in Python`
    """

    def __init__(self, context: PluginContext | None = None, file: str = "notes.json", whose: str = "policies") -> None:
        self._file: StateFile[dict[str, KeptNotes]] | None = None
        if context is not None:
            loss = f"{whose} began without notes"
            self._file = context.state_file(file, f"the file of notes of {whose}", _NOTES, mode=0o600, loss=loss)
        self._kept: dict[str, KeptNotes] = {}
        self._incarnations: Mapping[str, str] = {}
        self._unwritten = False

    def load(self) -> None:
        """Read what is on disk. A damaged file is set aside, and mom says so."""
        self._kept = (self._file.read() if self._file is not None else None) or {}

    def memory(self) -> dict[str, Value]:
        """All notes, and whose they are: what `set_memory` takes."""
        return {identity: {"incarnation": one.incarnation, "values": one.values} for identity, one in self._kept.items()}

    def set_memory(self, memory: Value) -> None:
        """Have these notes and no others. Raises `MomError` for anything but notes, and keeps what was there."""
        try:
            self._kept = _NOTES.validate_python(memory)
        except ValidationError as error:
            raise MomError(f"these are no notes: {error}", hint="give what `memory` gave") from error
        self._unwritten = True

    def begin(self, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
        """The notes that an evaluation finds, by entity's id and name. Those on guests that are gone or were started anew are dropped."""
        self._incarnations = {HOST_ID: "", **{guest.id: guest.incarnation for guest in snapshot.listed}}
        found: dict[str, dict[str, Any]] = {}
        for identity, one in list(self._kept.items()):
            if self._incarnations.get(identity) == one.incarnation:
                one.absent = 0
                found[identity] = one.values
                continue
            one.absent += 1
            if identity in self._incarnations or not one.incarnation or one.absent >= _ABSENCES:
                del self._kept[identity]
                self._unwritten = True
        return found

    def keep(self, notes: Mapping[str, dict[str, Any]]) -> None:
        """Have these notes on entities of which the evaluation knew, in place of those that were there, and write what has changed."""
        for identity, values in notes.items():
            before = self._kept.get(identity)
            there = {} if before is None else before.values
            if values == there and repr(values) == repr(there):  # 1, 1.0 and true are equal
                continue
            self._kept.pop(identity, None)
            if values:
                self._kept[identity] = KeptNotes(self._incarnations[identity], values)
            self._unwritten = True
        if self._unwritten and self._file is not None:
            with contextlib.suppress(StateError):  # tried again in the next cycle; mom says what is wrong with the file
                self._file.write(self.memory())
                self._unwritten = False
