"""News of reservations and policies, for the event stream."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from typing_extensions import TypedDict

from mom_core import MomError, PluginContext, format_kib
from mom_kvm import PolicyChange, PolicyState, PolicyTexts, Reservation, Reservations
from mom_plugins_http.routes.answers import as_object
from mom_plugins_http.routes.published import PastNote

KEPT_NOTES: Final = 200


class NewReservationsModel(TypedDict):
    """Reservations whose state has changed."""

    items: list[Reservation]


class NewPoliciesModel(TypedDict):
    """Changes of the policies, newest last."""

    version: str
    items: list[PolicyChange]


class Item(NamedTuple):
    """Name and content of one event."""

    name: str
    content: Mapping[str, Any]


class News:
    """Changes of reservations and policies since the last `gather`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._states: dict[str, Reservation.State] | None = None
        self._version: str | None = None
        self.notes: Sequence[PastNote] = ()
        """Notes on reservations and policy changes, newest first."""
        self.policies: PolicyState | None = None
        self._failure = ""

    def gather(self) -> Sequence[Item]:
        """Return the changes since the last call, as events."""
        items: list[Item] = []
        failure = ""
        for changes in (self._reservations, self._policies):
            try:
                items += changes()
            except MomError:  # the plugin is not ready: try next time
                continue
            except Exception as error:  # another plugin's fault; clients still get the cycle
                failure = repr(error)
                if failure != self._failure:
                    self._context.log.error("another plugin fails to report its changes", exc_info=error)
        self._failure = failure
        return items

    def _note(self, notes: Sequence[PastNote]) -> None:
        self.notes = sorted([*notes, *self.notes], key=lambda note: -note.time)[:KEPT_NOTES]

    def _reservations(self) -> Sequence[Item]:
        if (service := self._context.service(Reservations)) is None:
            return ()
        reservations = service.reservations()
        before, self._states = self._states, {each.id: each.state for each in reservations}
        changed = [each for each in reservations if before is None or before.get(each.id) is not each.state]
        self._note([_reservation_note(each, each.created_at if before is None else time.time()) for each in changed])
        return [Item("reservations", {"items": as_object(changed)})] if changed and before is not None else ()

    def _policies(self) -> Sequence[Item]:
        self.policies, service = None, self._context.service(PolicyTexts)
        if service is None:
            return ()
        self.policies = state = service.state()
        version, before = state.version, self._version
        if version == before:
            return ()
        history = service.history()  # only after a change: this call may wait for a compilation
        self._version, versions = version, [change.version for change in history]
        since = versions.index(before) + 1 if before in versions else 0
        until = versions.index(version) + 1 if version in versions else None  # later changes are for the next call
        changes = history[since:until]
        self._note([PastNote(change.time, "policies", f"{change.what}, by {change.who}") for change in changes])
        return [Item("policies", {"version": version, "items": as_object(changes)})] if before is not None else ()


def _reservation_note(reservation: Reservation, time: float) -> PastNote:
    guest = f", by {reservation.guest.name}" if reservation.guest else ""
    note = f"; {reservation.note}" if reservation.note else ""
    text = f"{format_kib(reservation.memory_kib)} for {reservation.name or reservation.id}: {reservation.state}{guest}{note}"
    return PastNote(time, "reserved", text)
