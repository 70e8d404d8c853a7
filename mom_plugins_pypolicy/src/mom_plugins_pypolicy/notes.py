"""Notes that policies keep on the host and the guests from cycle to cycle, also across restarts."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Final, NamedTuple

from pydantic import Field, TypeAdapter

from mom_core import HOST_ID, PluginContext, Snapshot, StateError

_Text = Annotated[str, Field(max_length=4096)]
_Scalar = bool | Annotated[int, Field(gt=-(1 << 63), lt=1 << 63)] | Annotated[float, Field(gt=-(2.0**63), lt=2.0**63)] | _Text
Notes = Annotated[dict[_Text, _Scalar | Annotated[list[_Scalar], Field(max_length=1000)]], Field(max_length=1000)]


class EntityNotes(NamedTuple):
    """The notes on one entity: on which incarnation of it, and for how many evaluations it has not been there."""

    notes: Notes
    incarnation: str = ""
    absent: int = 0


CAN_BE_KEPT: Final = TypeAdapter(Notes)


class PythonNoteStore:
    """The notes of all policies in Python, in memory and in a file of state: what is wrong with that, mom says.

    Those on a guest that is not there are kept for 60 evaluations, five minutes at 5 s: the hypervisor may be restarted.
    """

    def __init__(self, context: PluginContext) -> None:
        form, loss = TypeAdapter(dict[str, EntityNotes]), "the policies in Python began without notes"
        self._file = context.state_file("notes.json", "the file of notes of policies in Python", form, mode=0o600, loss=loss)
        self._kept, self._there = dict[str, EntityNotes](), dict[str, str]()

    def load(self) -> None:
        """Read what is on disk."""
        self._kept = self._file.read() or {}

    def begin(self, snapshot: Snapshot) -> dict[str, Notes]:
        """The notes by entity's id, without those on guests that are not there, or were started anew."""
        self._there = {HOST_ID: "", **{identity: guest.incarnation for identity, guest in snapshot.guests.items()}}
        return {one: kept.notes for one, kept in self._kept.items() if self._there.get(one) == kept.incarnation}

    def keep(self, notes: dict[str, Notes]) -> None:
        """Have these notes on what was there at the beginning, and write them if they are new."""
        before = {one: kept[:2] for one, kept in self._kept.items()}
        away = {one: kept for one, kept in self._kept.items() if one not in self._there and kept.absent < 60}
        self._kept = {one: kept._replace(absent=kept.absent + 1) for one, kept in away.items()}
        self._kept |= {one: EntityNotes(noted, self._there[one]) for one, noted in notes.items() if noted}
        if self._file.write_error or before != {one: kept[:2] for one, kept in self._kept.items()}:
            with suppress(StateError):  # tried again in the next cycle
                self._file.write(self._kept)
