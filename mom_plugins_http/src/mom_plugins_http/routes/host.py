"""The host in past cycles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from typing_extensions import TypedDict  # pydantic's, for Pythons before 3.12

from mom_daemon import Seconds, Time, described
from mom_plugins_http.routes.answers import Items
from mom_plugins_http.routes.published import CycleSample, Published
from mom_plugins_http.routes.route import LIMIT, ApiCall, Route


class PastModel(TypedDict):
    """A past cycle."""

    cycle: int
    time: Time
    duration_seconds: Seconds


@described
class PastHostModel(PastModel):
    """The host in a past cycle."""

    fields: Mapping[str, Any]
    guests_together: Mapping[str, Any]
    """Sums over all guests of which the field is known; null where it is known of none."""


class HostRoutes:
    """The past of the host; the report has what is so now."""

    def __init__(self, published: Published) -> None:
        self._published = published

    def routes(self) -> list[Route]:
        """Its operation."""
        return [Route("GET", "/v1/host/history", self.host_history, Items[PastHostModel], parameters=(LIMIT,))]

    async def host_history(self, call: ApiCall) -> object:
        """The host in past cycles, newest first."""
        return past_cycles(self._published, call, lambda sample: {"fields": sample.host, "guests_together": sample.together})


def past_cycles(published: Published, call: ApiCall, values: Callable[[CycleSample], Mapping[str, object] | None]) -> object:
    """The newest first.

    :param values: what is told of a cycle beside when it was; None: it is left out
    """
    samples = ((sample, values(sample)) for sample in reversed(published.history()))
    items = ({"cycle": one.number, "time": one.time, "duration_seconds": one.duration, **told} for one, told in samples if told is not None)
    return {"items": list(islice(items, call.number(LIMIT)))}
