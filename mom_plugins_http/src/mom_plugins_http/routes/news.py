"""Changes of reservations and policies since the last cycle, for those who listen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_core import PluginContext
from mom_plugins_http.routes.answers import as_object, asked, canary_of, sound, whose
from mom_toolkit import CanaryState, PolicyChange, PolicyState, PolicyTexts, Reservation, Reservations, ReservationState

Service = TypeVar("Service")
Result = TypeVar("Result")


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
        self._wrong: dict[str, str] = {}
        self.policies: PolicyState | None = None
        """Those in force, when this was asked last."""
        self.wrong: Mapping[str, str] = {}
        """What is wrong with services, by whose they are, when this was asked last."""
        self.asks = ""
        """Whose service is asked now, or was last."""

    def gather(self) -> Sequence[Item]:
        """The changes since this was asked last."""
        self._wrong = {}
        found = [*self._reservations(), *self._policies(), *self._canary()]
        self.wrong = self._wrong
        return found

    def _asked(self, kind: Callable[..., Service], question: Callable[[Service], Result]) -> Result | None:
        self.asks = whose(self._context, kind)
        return asked(self._context, kind, question, self._wrong)

    def _reservations(self) -> Sequence[Item]:
        found = self._asked(Reservations, lambda kept: [sound(Reservation, one) for one in kept.reservations()])
        if found is None:
            return ()
        before, self._states = self._states, {one.id: one.state for one in found}
        if before is None:
            return ()
        changed = [as_object(one) for one in found if before.get(one.id) is not one.state]
        return [Item("reservations", {"items": changed})] if changed else ()

    def _policies(self) -> Sequence[Item]:
        self.policies = self._asked(PolicyTexts, lambda kept: sound(PolicyState, kept.state()))
        version, before = None if self.policies is None else self.policies.version, self._version
        if version is None or version == before:
            return ()
        if before is None:
            self._version = version
            return ()
        # Only now: the history may have to wait for a change that is being compiled, and no cycle is to do that for nothing.
        history = self._asked(PolicyTexts, lambda kept: [sound(PolicyChange, one) for one in kept.history()])
        if history is None:
            return ()
        self._version, known = version, [one.version for one in history]
        since = known.index(before) + 1 if before in known else 0
        until = known.index(version) + 1 if version in known else None  # what has come since is told next time
        return [Item("policies", {"version": version, "items": as_object(history[since:until])})]

    def _canary(self) -> Sequence[Item]:
        found = self._asked(PolicyTexts, canary_of)
        if found is None or (now := (found.began_at, found.state)) == self._trial:
            return ()
        self._trial = now
        return [Item("canary", as_object(found))]
