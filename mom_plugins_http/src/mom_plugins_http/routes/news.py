"""Changes of reservations and policies since the last cycle, for those who listen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import PluginContext
from mom_plugins_http.routes.answers import as_object, asked
from mom_toolkit import CanaryState, PolicyChange, PolicyTexts, Reservation, Reservations, ReservationState


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
        self._trial: tuple[float, CanaryState] | None = None

    def gather(self) -> Sequence[Item]:
        """The changes since this was asked last."""
        return [*self._reservations(), *self._policies(), *self._canary()]

    def _reservations(self) -> Sequence[Item]:
        found = asked(self._context, Reservations, lambda kept: kept.reservations())
        if found is None:
            return ()
        before, self._states = self._states, {one.id: one.state for one in found}
        if before is None:
            return ()
        changed = [as_object(one) for one in found if before.get(one.id) is not one.state]
        return [Item("reservations", {"items": changed})] if changed else ()

    def _policies(self) -> Sequence[Item]:
        version, before = asked(self._context, PolicyTexts, lambda kept: kept.state().version), self._version
        if version is None or version == before:
            return ()
        if before is None:
            self._version = version
            return ()
        # Only now: the history may have to wait for a change that is being compiled, and no cycle is to do that for nothing.
        history = asked(self._context, PolicyTexts, lambda kept: kept.history())
        if history is None:
            return ()
        self._version, known = version, [one.version for one in history]
        since = known.index(before) + 1 if before in known else 0
        until = known.index(version) + 1 if version in known else None  # what has come since is told next time
        return [Item("policies", {"version": version, "items": as_object(history[since:until])})]

    def _canary(self) -> Sequence[Item]:
        found = asked(self._context, PolicyTexts, lambda kept: kept.canary())
        if found is None or (now := (found.began_at, found.state)) == self._trial:
            return ()
        self._trial = now
        return [Item("canary", as_object(found))]
