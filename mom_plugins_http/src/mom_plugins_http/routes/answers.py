"""Answers that belong to one cycle: made when they are first asked for, and kept until the next one ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_cli import find_guest
from mom_core import HOST_ID, Entity, Guest, MomError, PluginContext
from mom_daemon import json_text
from mom_plugins_http.routes.published import Published, ReportView
from mom_plugins_http.routes.route import ApiCall
from mom_plugins_http.server.problems import ProblemError

Item = TypeVar("Item")


class Items(TypedDict, Generic[Item]):
    """A list."""

    items: list[Item]


class CycleAnswers:
    """The newest report, for all routes that answer from it."""

    def __init__(self, context: PluginContext, published: Published) -> None:
        self.context = context
        self.published = published

    def view(self) -> ReportView:
        """The newest report. Raises `ProblemError` before the first."""
        view = self.published.view
        if view is None:
            raise ProblemError(503, "mom has not finished its first cycle yet", "ask again in a moment", headers={"retry-after": "1"})
        return view

    def kept(self, key: object, make: Callable[[ReportView], object]) -> bytes:
        """The answer of this name."""
        view = self.view()
        return view.answer(key, lambda: json_text(make(view)))


def as_object(value: object) -> Any:
    """A data class of a service with all that is in it, for JSON; entities are objects, too."""
    if isinstance(value, Entity):
        return value._asdict()
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: as_object(getattr(value, one.name)) for one in fields(value)}
    return [as_object(one) for one in value] if isinstance(value, list | tuple) else value


def found_guest(view: ReportView, wanted: str) -> Guest:
    """The guest of this id or name. Raises `ProblemError`."""
    try:
        return find_guest(view.report.snapshot.guests, wanted)
    except MomError as error:
        raise ProblemError(404, error.message, f"{error.hint}; GET /v1/guests lists all, with their ids and names") from None


def about(call: ApiCall, view: ReportView, listed: Sequence[Item], entity: Callable[[Item], Entity | None]) -> Sequence[Item]:
    """Those that concern the guest, or the host, that is asked for, or all. Raises `ProblemError`."""
    if (wanted := call.query.get("guest")) is None:
        return listed
    identity = HOST_ID if wanted == HOST_ID else found_guest(view, str(wanted)).id
    return [one for one in listed if (whom := entity(one)) is not None and whom.id == identity]
