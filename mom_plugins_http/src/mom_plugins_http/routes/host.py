"""The host in past cycles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_daemon import HostFields, Seconds, Time, described
from mom_plugins_http.routes.answers import CycleAnswers, PastPage, bad_cursor, json_answer
from mom_plugins_http.routes.published import CycleSample
from mom_plugins_http.routes.route import AFTER, LIMIT, ApiCall, Route
from mom_toolkit import json_text


class PastModel(TypedDict):
    """A past cycle."""

    cycle: int
    time: Time
    duration_seconds: Seconds


@described
class PastHostModel(PastModel):
    """The host in a past cycle."""

    fields: HostFields
    guests_together: Annotated[Mapping[str, Any], Field(json_schema_extra={"x-fields": "history"})]
    """Sums over all guests of which the field is known; null where it is known of none."""


class HostRoutes:
    """The past of the host; the report has what is so now."""

    def __init__(self, answers: CycleAnswers) -> None:
        self._answers = answers

    def routes(self) -> list[Route]:
        """Its operation."""
        past = "The host in past cycles, newest first."
        return [
            Route("GET", "/v1/host/history", "hostHistory", past, self.history, PastPage[PastHostModel], parameters=(LIMIT, AFTER)),
        ]

    async def history(self, call: ApiCall) -> Response:
        """The host in past cycles."""
        return past_answer(self._answers, call, lambda sample: {"fields": sample.host, "guests_together": sample.together})


def past_answer(answers: CycleAnswers, call: ApiCall, values: Callable[[CycleSample], Mapping[str, object] | None]) -> Response:
    """Newest first, so that the first page is what most want; `after` is a cycle's number.

    :param values: what is told of a cycle beside when it was; None: it is left out
    """
    after = call.after
    if after and not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise bad_cursor()
    items: list[Mapping[str, object]] = []
    following = None
    for sample in reversed(answers.published.history()):
        if after and sample.number >= int(after):
            continue
        found = values(sample)
        if found is None:
            continue
        if len(items) == call.limit:
            following = str(items[-1]["cycle"])
            break
        items.append({"cycle": sample.number, "time": sample.time, "duration_seconds": sample.duration, **found})
    return json_answer(json_text({"next": following, "items": items}))
