"""Answers that belong to one cycle: made when they are first asked for, kept until the next one ends, and given in pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_cli import find_guest
from mom_core import HOST_ID, Entity, Guest, MomError, PluginContext
from mom_daemon import described
from mom_plugins_http.routes.published import Published, ReportView
from mom_plugins_http.routes.route import ApiCall
from mom_plugins_http.server.problems import ProblemError
from mom_toolkit import json_text

Item = TypeVar("Item")


@described
class Page(TypedDict, Generic[Item]):
    """A part of a list that belongs to one cycle."""

    cycle: int
    total: int
    """Items on all pages together."""
    next: str | None
    """`after` of the next page; null on the last one."""
    items: list[Item]


@described
class PastPage(TypedDict, Generic[Item]):
    """A part of a list that goes on from cycle to cycle."""

    next: str | None
    """`after` of the next page; null on the last one."""
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

    def kept(self, key: object, make: Callable[[ReportView], object]) -> Response:
        """The answer of this name."""
        view = self.view()
        return json_answer(view.answer(key, lambda: json_text(make(view))))

    def paged(
        self, call: ApiCall, name: str, listed: Callable[[ReportView], Sequence[Item]], described: Callable[[Item], Mapping[str, Any]]
    ) -> Response:
        """A page of a list that belongs to one cycle. The cursor names the cycle: pages of two cycles would not fit together."""
        view = self.view()

        def page() -> bytes:
            items = listed(view)
            start = _position(call.after, view.report.number)
            shown = items[start : start + call.limit]
            end = start + len(shown)
            following = f"{view.report.number}-{end}" if end < len(items) else None
            made: Page[Any] = {
                "cycle": view.report.number,
                "total": len(items),
                "next": following,
                "items": [described(one) for one in shown],
            }
            return json_text(made)

        return json_answer(view.answer((name, call.query.get("guest"), call.limit, call.after), page))


def json_answer(body: bytes) -> Response:
    """An answer that no one but mom keeps."""
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def found_guest(view: ReportView, wanted: str) -> Guest:
    """The guest of this id or name. Raises `ProblemError`."""
    try:
        return find_guest(view.report.snapshot.guests, wanted)
    except MomError as error:
        raise ProblemError(404, error.message, f"{error.hint}; GET /v1/guests lists all, with their ids and names") from None


def asked_entity(call: ApiCall, view: ReportView) -> str | None:
    """The id of the guest, or of the host, that a list is to be about; None: it is about all. Raises `ProblemError`."""
    wanted = call.query.get("guest")
    return HOST_ID if wanted == HOST_ID else None if wanted is None else found_guest(view, str(wanted)).id


def about(call: ApiCall, view: ReportView, listed: Sequence[Item], entity: Callable[[Item], Entity | None]) -> Sequence[Item]:
    """Those that concern the guest that is asked for, or all."""
    known = asked_entity(call, view)
    if known is None:
        return listed
    return [one for one in listed if (whom := entity(one)) is not None and whom.id == known]


def bad_cursor() -> ProblemError:
    """What `after` is when no list gave it."""
    return ProblemError(
        400, "`after` is nothing that a list gave as `next`", "begin without it, and take `next` of each page for the page after"
    )


def _position(after: str, cycle: int) -> int:
    if not after:
        return 0
    number, _, index = after.partition("-")
    if not (number.isascii() and number.isdigit() and index.isascii() and index.isdigit()) or len(after) > 40:
        raise bad_cursor()
    if int(number) != cycle:
        raise ProblemError(
            410, f"cycle {number} is over, and this list belongs to it", "begin again without `after`, or with a larger `limit`"
        )
    return int(index)
