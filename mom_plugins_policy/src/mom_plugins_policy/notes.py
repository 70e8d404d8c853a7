"""Notes of policies on the host and on guests, kept across cycles and restarts, so that policies can have hysteresis."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, TypeAdapter

from mom_core import HOST_ID, MomError, PluginContext, Snapshot, StateError, StateFile, Value, printable

_GONE_SECONDS: Final = 3600.0
"""How long notes outlive a guest that is not listed: it may return from another host."""


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """Check notes up to the first invalid value. A forged recording may hold very many, and pydantic would collect errors for each."""
    for name, value in values.items():
        if not all(item is None or isinstance(item, bool | int | float | str) for item in (value if isinstance(value, list) else [value])):
            raise ValueError(f"{printable(name)} holds no value that a policy can keep")
    return values


@dataclass(slots=True)
class KeptNotes:
    """The notes on one entity: on which incarnation of it, since when it has been absent (monotonic seconds), and their bytes."""

    incarnation: str
    values: Annotated[dict[str, Any], AfterValidator(_checked)]
    absent: float | None = field(default=None, init=False)
    size: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.size = sum(_size(name) + _size(value) for name, value in self.values.items())


_SCALAR: Final = 24
"""Bytes of a number in JSON, with what stands between it and the next."""

_LARGE: Final = 1 << 63

_NOTES: Final = TypeAdapter(dict[str, KeptNotes])
_ENTITY: Final = TypeAdapter(KeptNotes)


def _size(value: Any) -> int:
    """Bytes that a value takes in JSON, at the most."""
    if isinstance(value, str):
        if value.isascii() and value.isprintable():
            return _SCALAR + len(value) + value.count('"') + value.count("\\")
        return _SCALAR + 3 * len(value.encode("utf-16-le", "surrogatepass"))
    if isinstance(value, list):
        return _SCALAR + sum(map(_size, value))
    return _SCALAR + (value.bit_length() // 3 if value.__class__ is int and not -_LARGE < value < _LARGE else 0)


class NoteStore:
    """Notes in memory and, from one cycle to the next, in a file of state.

    The notes on a guest go with it: when it is started anew (another `incarnation`), or when it is not there. If the hypervisor tells
    incarnations, a guest may be away for an hour, and all for as long as the hypervisor is, and is still the same when it returns.

    All notes together are bounded, as each cycle may write them, and as the file must be read again.

    :param context: of the plugin in whose folder they are kept; None: they last until mom ends
    :param file: the file's name
    :param whose: whose notes they are, in words, such as `policies in Python`
    """

    LARGEST: ClassVar[int] = 8 << 20
    """Bytes that all notes together may have in JSON: ten notes of 70 bytes on each of 10,000 guests."""

    def __init__(self, context: PluginContext | None = None, file: str = "notes.json", whose: str = "policies") -> None:
        self._file: StateFile[dict[str, KeptNotes]] | None = None
        if context is not None:
            loss = f"{whose} began without notes"
            self._file = context.state_file(file, f"the file of notes of {whose}", _NOTES, mode=0o600, loss=loss)
        self._kept: dict[str, KeptNotes] = {}
        self._size = 0
        self._incarnations: Mapping[str, str] = {}
        self._unwritten = False

    def load(self) -> None:
        """Read what is on disk. A damaged file is set aside, and mom says so."""
        self._kept = (self._file.read() if self._file is not None else None) or {}
        self._size = sum(one.size for one in self._kept.values())

    @staticmethod
    def size_of(name: str, value: Any) -> int:
        """Bytes of a note, as `room` counts them; None is no note."""
        return 0 if value is None else _size(name) + _size(value)

    @property
    def room(self) -> int:
        """Bytes by which the notes may grow; below 0 where a file has more than they may have."""
        return self.LARGEST - self._size

    def memory(self) -> dict[str, Value]:
        """All notes, and whose they are: what `set_memory` takes."""
        return {identity: {"incarnation": one.incarnation, "values": one.values} for identity, one in list(self._kept.items())}

    def set_memory(self, memory: Value) -> None:
        """Have these notes and no others. Raises `MomError` for anything but notes, and keeps what was there."""
        try:
            entities = memory if isinstance(memory, Mapping) else {"": memory}
            self._kept = {str(identity): _ENTITY.validate_python(notes) for identity, notes in entities.items()}
        except ValueError as error:  # pydantic's, too
            raise MomError(f"these are no notes: {printable(str(error), 200)}", hint="give what `memory` gave") from error
        self._size = sum(one.size for one in self._kept.values())
        self._unwritten = True

    def begin(self, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
        """The notes that an evaluation finds, by entity's id and name. Those on guests that are gone or were started anew are dropped."""
        self._incarnations = {HOST_ID: "", **{guest.id: guest.incarnation for guest in snapshot.listed}}
        found: dict[str, dict[str, Any]] = {}
        for identity, one in list(self._kept.items()):
            if self._incarnations.get(identity) == one.incarnation:
                one.absent = None
                found[identity] = one.values
                continue
            if identity not in self._incarnations and one.incarnation:
                # A list without any guest tells of none that it is gone: the hypervisor may be away.
                one.absent = None if not snapshot.listed else snapshot.monotonic if one.absent is None else one.absent
                if one.absent is None or snapshot.monotonic - one.absent < _GONE_SECONDS:
                    continue
            self._size -= self._kept.pop(identity).size
            self._unwritten = True
        return found

    def keep(self, notes: Mapping[str, dict[str, Any]]) -> Sequence[str]:
        """Have these notes on entities of which the evaluation knew, in place of those that were there, and write what has changed.

        Gives the ids of the entities of which the notes stay as they were, as with them all together would be more than `LARGEST` bytes.
        """
        refused: list[str] = []
        for identity, values in notes.items():
            before = self._kept.get(identity)
            there = {} if before is None else before.values
            if values == there and repr(values) == repr(there):  # 1, 1.0 and true are equal
                continue
            after = KeptNotes(self._incarnations[identity], values)
            growth = after.size - (0 if before is None else before.size)
            if growth > max(self.room, 0):
                refused.append(identity)
                continue
            self._size += growth
            self._kept.pop(identity, None)
            if values:
                self._kept[identity] = after
            self._unwritten = True
        if self._unwritten and self._file is not None:
            with contextlib.suppress(StateError):  # tried again in the next cycle; mom says what is wrong with the file
                self._file.write(self.memory())
                self._unwritten = False
        return refused
