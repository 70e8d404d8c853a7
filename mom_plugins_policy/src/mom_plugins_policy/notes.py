"""Notes that policies keep across cycles and restarts of mom."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import AfterValidator, TypeAdapter

from mom_core import Host, MomError, PluginContext, Snapshot, StateError, StateFile, Value, printable

_GONE_SECONDS: Final = 3600.0
"""mom keeps an unlisted guest's notes for this time, because the guest may return from another host."""

LONGEST: Final = 4096
"""Maximum length of a note as JSON, in characters."""


def keepable(value: Any) -> bool:
    """Return whether a note can have this value: nil, a number, a string, or a flat list of these."""
    items = value if isinstance(value, list) else [value]
    if len(items) > LONGEST or not all(item is None or isinstance(item, int | float | str) for item in items):
        return False
    try:
        return len(json.dumps(value, ensure_ascii=False, allow_nan=False)) <= LONGEST
    except ValueError:  # infinite
        return False


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    # Stops at the first invalid value: pydantic would collect all errors of a forged file.
    for name, value in values.items():
        if not keepable(value):
            raise ValueError(f"{printable(name)} contains a value that a policy cannot keep")
    return values


@dataclass(slots=True)
class KeptNotes:
    """Notes on one entity. `absent` is the monotonic time when a guest vanished from the list; None while listed."""

    incarnation: str
    values: Annotated[dict[str, Any], AfterValidator(_checked)]
    absent: float | None = field(default=None, init=False)


_NOTES: Final = TypeAdapter(dict[str, KeptNotes])


class NoteStore:
    """Notes in memory and in a state file.

    A guest's notes are dropped when the guest restarts with another `incarnation`, or an hour after it is gone (immediately if its
    incarnation is unknown).

    :param context: context of the plugin whose folder holds the file; None to keep notes in memory
    :param whose: the notes' owner in messages, such as `policies in Python`
    """

    def __init__(self, context: PluginContext | None = None, file: str = "notes.json", whose: str = "policies") -> None:
        self._file: StateFile[dict[str, KeptNotes]] | None = None
        if context is not None:
            loss = f"{whose} started without notes"
            self._file = context.state_file(file, f"the file of notes of {whose}", _NOTES, mode=0o600, loss=loss)
        self._kept: dict[str, KeptNotes] = {}
        self._incarnations: Mapping[str, str] = {}
        self._unwritten = False

    def load(self) -> None:
        """Read the notes from the file."""
        self._kept = (self._file.read() if self._file is not None else None) or {}

    def memory(self) -> dict[str, Value]:
        """Return all notes, in the form that `set_memory` accepts."""
        return {identity: {"incarnation": notes.incarnation, "values": notes.values} for identity, notes in list(self._kept.items())}

    def set_memory(self, memory: Value) -> None:
        """Replace all notes. For invalid data, raise `MomError` and change nothing."""
        try:
            self._kept = _NOTES.validate_python(memory)
        except ValueError as error:  # includes pydantic's
            raise MomError(f"invalid notes: {printable(str(error), 200)}", hint="pass a value that `memory` returned") from error
        self._unwritten = True

    def begin(self, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
        """Return notes keyed by entity id and name. Drop notes of restarted or long gone guests."""
        self._incarnations = {Host.ID: "", **{guest.id: guest.incarnation for guest in snapshot.listed}}
        current: dict[str, dict[str, Any]] = {}
        for identity, notes in list(self._kept.items()):
            if self._incarnations.get(identity) == notes.incarnation:
                notes.absent = None
                current[identity] = notes.values
                continue
            if identity not in self._incarnations and notes.incarnation:
                # An empty list proves nothing: the hypervisor may be unreachable.
                notes.absent = None if not snapshot.listed else snapshot.monotonic if notes.absent is None else notes.absent
                if notes.absent is None or snapshot.monotonic - notes.absent < _GONE_SECONDS:
                    continue
            del self._kept[identity]
            self._unwritten = True
        return current

    def keep(self, notes: Mapping[str, dict[str, Any]]) -> None:
        """Replace notes, keyed by entity id, and write the file."""
        for identity, values in notes.items():
            before = self._kept.pop(identity, None)
            if values:
                self._kept[identity] = KeptNotes(self._incarnations[identity], values)
            if repr(values) != repr({} if before is None else before.values):  # 1, 1.0 and True are equal, but differ in the file
                self._unwritten = True
        if self._unwritten and self._file is not None:
            with contextlib.suppress(StateError):  # the next cycle retries; mom reports the error
                self._file.write(self.memory())
                self._unwritten = False
