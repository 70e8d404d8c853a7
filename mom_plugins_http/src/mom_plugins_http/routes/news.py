"""Changes of reservations and policies since the last cycle, for those who listen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import PluginContext, format_kib
from mom_kvm import PolicyChange, PolicyState, PolicyTexts, Reservation, Reservations, ReservationState
from mom_plugins_http.routes.answers import as_object, asked, sound, whose
from mom_plugins_http.routes.published import PastNote

Service = TypeVar("Service")
Result = TypeVar("Result")


KEPT_NOTES: Final = 200


class NewReservationsModel(TypedDict):
    """Reservations whose state has changed."""

    items: list[Reservation]


class NewPoliciesModel(TypedDict):
    """Changes of the policies, the newest last."""

    version: str
    items: list[PolicyChange]


class Item(NamedTuple):
    """One event: its name, and what it says."""

    name: str
    content: Mapping[str, Any]


class News:
    """Compares what is with what was said last; what was so when mom began is no news."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._states: dict[str, ReservationState] | None = None
        self._version: str | None = None
        self._wrong: dict[str, str] = {}
        self.notes: Sequence[PastNote] = ()
        """Changes in words, the newest first, also those before this was asked first; replaced as a whole."""
        self.policies: PolicyState | None = None
        """Those in force, when this was asked last."""
        self.wrong: Mapping[str, str] = {}
        """What is wrong with services, by whose they are, when this was asked last."""
        self.asks = ""
        """Whose service is asked now, or was last."""

    def gather(self) -> Sequence[Item]:
        """The changes since this was asked last."""
        self._wrong = {}
        found = [*self._reservations(), *self._policies()]
        self.wrong = self._wrong
        return found

    def _note(self, notes: Sequence[PastNote]) -> None:
        self.notes = sorted([*notes, *self.notes], key=lambda note: -note.time)[:KEPT_NOTES]

    def _asked(self, kind: Callable[..., Service], question: Callable[[Service], Result]) -> Result | None:
        self.asks = whose(self._context, kind)
        return asked(self._context, kind, question, self._wrong)

    def _reservations(self) -> Sequence[Item]:
        found = self._asked(Reservations, lambda kept: [sound(Reservation, one) for one in kept.reservations()])
        if found is None:
            return ()
        before, self._states = self._states, {one.id: one.state for one in found}
        changed = [one for one in found if before is None or before.get(one.id) is not one.state]
        self._note([_reservation_note(one, one.created_at if before is None else time.time()) for one in changed])
        return [Item("reservations", {"items": as_object(changed)})] if changed and before is not None else ()

    def _policies(self) -> Sequence[Item]:
        self.policies = self._asked(PolicyTexts, lambda kept: sound(PolicyState, kept.state()))
        version, before = None if self.policies is None else self.policies.version, self._version
        if version is None or version == before:
            return ()
        # Only now: the history may have to wait for a change that is being compiled, and no cycle is to do that for nothing.
        history = self._asked(PolicyTexts, lambda kept: [sound(PolicyChange, one) for one in kept.history()])
        if history is None:
            return ()
        self._version, known = version, [one.version for one in history]
        since = known.index(before) + 1 if before in known else 0
        until = known.index(version) + 1 if version in known else None  # what has come since is told next time
        changes = history[since:until]
        self._note([PastNote(one.time, "policies", f"{one.what}, by {one.who}") for one in changes])
        return [Item("policies", {"version": version, "items": as_object(changes)})] if before is not None else ()


def _reservation_note(one: Reservation, time: float) -> PastNote:
    guest = f", by {one.guest.name}" if one.guest else ""
    note = f"; {one.note}" if one.note else ""
    return PastNote(time, "reserved", f"{format_kib(one.memory_kib)} for {one.name or one.id}: {one.state}{guest}{note}")
