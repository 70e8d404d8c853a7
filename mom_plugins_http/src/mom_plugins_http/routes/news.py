"""Changes of reservations and policies since the last cycle, for those who listen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import MomError, PluginContext
from mom_plugins_http.routes.answers import as_object
from mom_plugins_http.routes.policies import PolicyChangeModel
from mom_toolkit import CanaryState, PolicyTexts, Reservation, Reservations, ReservationState


class NewReservationsModel(TypedDict):
    """Reservations whose state has changed."""

    items: list[Reservation]


class NewPoliciesModel(TypedDict):
    """Changes of the policies, the newest last."""

    version: str
    items: list[PolicyChangeModel]


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
        kept = self._context.service(Reservations)
        if kept is None:
            return ()
        try:
            found = {one.id: one for one in kept.reservations()}
        except MomError:  # nothing is known of the host's memory now
            return ()
        before, self._states = self._states, {identity: one.state for identity, one in found.items()}
        if before is None:
            return ()
        changed = [as_object(one) for one in found.values() if before.get(one.id) is not one.state]
        return [Item("reservations", {"items": changed})] if changed else ()

    def _policies(self) -> Sequence[Item]:
        texts = self._context.service(PolicyTexts)
        try:
            version = None if texts is None else texts.state().version
        except MomError:  # the evaluator has not been set up
            return ()
        before, self._version = self._version, version
        if texts is None or before is None or version == before:
            return ()
        history = texts.history()
        known = [one.version for one in history]
        since = known.index(before) + 1 if before in known else 0
        changes: list[PolicyChangeModel] = [
            {"version": one.version, "time": one.time, "who": one.who, "what": one.what} for one in history[since:]
        ]
        return [Item("policies", {"version": version, "items": changes})]

    def _canary(self) -> Sequence[Item]:
        texts = self._context.service(PolicyTexts)
        try:
            found = None if texts is None else texts.canary()
        except MomError:  # as above
            return ()
        if found is None or (now := (found.began_at, found.state)) == self._trial:
            return ()
        self._trial = now
        return [Item("canary", as_object(found))]
