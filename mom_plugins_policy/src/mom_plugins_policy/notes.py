"""Notes that policies keep across cycles and restarts of mom."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, TypeAdapter

from mom_core import Guest, Host, MomError, PluginContext, Problem, Snapshot, Source, StateError, StateFile, Value, printable

_GONE_SECONDS: Final = 3600.0
"""mom keeps an unlisted guest's notes for this time, because the guest may return from another host."""

LONGEST_LIST: Final = 1000  # elements
LONGEST_TEXT: Final = 1 << 16  # characters of a note


def keepable(value: Any) -> bool:
    """Return whether a note can have this value: nil, a number, a string, or a flat list of these."""
    items = value if isinstance(value, list) else [value]
    if len(items) > LONGEST_LIST or sum(len(item) for item in items if isinstance(item, str)) > LONGEST_TEXT:
        return False
    return all(item is None or isinstance(item, int | str) or (isinstance(item, float) and math.isfinite(item)) for item in items)


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    # Stops at the first invalid value: pydantic would collect all errors of a forged file.
    for name, value in values.items():
        if not keepable(value):
            raise ValueError(f"{printable(name)} contains a value that a policy cannot keep")
    return values


def _size(value: Any) -> int:
    if isinstance(value, list):
        return 24 + sum(map(_size, value))
    return 24 + (3 * len(value) if isinstance(value, str) else value.bit_length() // 3 if isinstance(value, int) else 0)


@dataclass(slots=True)
class KeptNotes:
    """Notes on one entity. `absent` is the monotonic time when a guest vanished from the list; None while listed.

    `size` estimates the notes' size as JSON in bytes.
    """

    incarnation: str
    values: Annotated[dict[str, Any], AfterValidator(_checked)]
    absent: float | None = field(default=None, init=False)
    size: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.size = sum(_size(name) + _size(value) for name, value in self.values.items())


_NOTES: Final = TypeAdapter(dict[str, KeptNotes])
_ENTITY: Final = TypeAdapter(KeptNotes)


class NoteStore:
    """Notes in memory and in a state file, with a limit on their total size.

    A guest's notes are dropped when the guest restarts with another `incarnation`, or an hour after it is gone (immediately if its
    incarnation is unknown).

    :param context: context of the plugin whose folder holds the file; None to keep notes in memory
    :param whose: the notes' owner in messages, such as `policies in Python`
    """

    LARGEST: ClassVar[int] = 8 << 20
    """Maximum size of all notes, in bytes."""

    def __init__(self, context: PluginContext | None = None, file: str = "notes.json", whose: str = "policies") -> None:
        self._file: StateFile[dict[str, KeptNotes]] | None = None
        if context is not None:
            loss = f"{whose} started without notes"
            self._file = context.state_file(file, f"the file of notes of {whose}", _NOTES, mode=0o600, loss=loss)
        self._kept: dict[str, KeptNotes] = {}
        self._size = 0
        self._incarnations: Mapping[str, str] = {}
        self._guests: Mapping[str, Guest] = {}
        self._source = Source("policy" if context is None else context.name)
        self._unwritten = False

    def load(self) -> None:
        """Read the notes from the file."""
        self._kept = (self._file.read() if self._file is not None else None) or {}
        self._size = sum(notes.size for notes in self._kept.values())

    def memory(self) -> dict[str, Value]:
        """Return all notes, in the form that `set_memory` accepts."""
        return {identity: {"incarnation": notes.incarnation, "values": notes.values} for identity, notes in list(self._kept.items())}

    def set_memory(self, memory: Value) -> None:
        """Replace all notes. For invalid data, raise `MomError` and change nothing."""
        try:
            entities = memory if isinstance(memory, Mapping) else {"": memory}
            self._kept = {str(identity): _ENTITY.validate_python(notes) for identity, notes in entities.items()}
        except ValueError as error:  # includes pydantic's
            raise MomError(f"invalid notes: {printable(str(error), 200)}", hint="pass a value that `memory` returned") from error
        self._size = sum(kept.size for kept in self._kept.values())
        self._unwritten = True

    def begin(self, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
        """Return notes keyed by entity id and name. Drop notes of restarted or long gone guests."""
        self._guests = snapshot.guests
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
            self._size -= self._kept.pop(identity).size
            self._unwritten = True
        return current

    def keep(self, notes: Mapping[str, dict[str, Any]]) -> Sequence[Problem]:
        """Replace notes, and write the file. Return a problem for each entity that keeps its old notes because of `LARGEST`."""
        refused: list[Problem] = []
        for identity, values in notes.items():
            before = self._kept.get(identity)
            old = {} if before is None else before.values
            if values == old and repr(values) == repr(old):  # 1, 1.0 and True are equal
                continue
            size_before = 0 if before is None else before.size
            after = KeptNotes(self._incarnations[identity], values)
            if after.size > max(self.LARGEST - self._size, 0) + size_before:
                message = f"new notes are not saved, and the old notes stay: all notes would take more than {self.LARGEST >> 20} MiB"
                guest = self._guests.get(identity)
                entity = None if guest is None else guest.entity
                refused.append(Problem(self._source, message, entity, hint="store less in notes, or delete notes"))
                continue
            self._size += after.size - size_before
            self._kept.pop(identity, None)
            if values:
                self._kept[identity] = after
            self._unwritten = True
        if self._unwritten and self._file is not None:
            with contextlib.suppress(StateError):  # the next cycle retries; mom reports the error
                self._file.write(self.memory())
                self._unwritten = False
        return refused
